"""`[regions]`: which datacenters may serve which city, for the regions of the operator's own load balancers."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

AUTOMATIC = "automatic"  # the word for a city that is not tied to a datacenter
# The codes that clients of the WAAP API know; they refuse any other before they ask.
CITY_CODES = {
    "ams": "Amsterdam",
    "ash": "Ashburn",
    "ffm": "Frankfurt am Main",
    "hkg": "Hong Kong",
    "lax": "Los Angeles",
    "lon": "London",
    "nyc": "New York",
    "sgp": "Singapore",
    "stl": "St. Louis",
}


class RegionSettings(BaseModel):
    """`[regions]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    city_codes: dict[str, str] = Field(CITY_CODES, description="Name of each city by its code")
    upstream_regions: tuple[str, ...] = Field(
        (), description="The datacenters that may serve a city, of every load balancer; none: the codes of the cities"
    )
    datacenters: dict[str, tuple[str, ...]] = Field(
        {},
        description="`upstream_regions` of single load balancers, by their id (the name of the target), where they have"
        " other ones",
    )

    @model_validator(mode="after")
    def _check(self) -> "RegionSettings":
        words = [
            *self.city_codes,
            *self.upstream_regions,
            *(name for names in self.datacenters.values() for name in names),
        ]
        if AUTOMATIC in words or "" in words:
            raise ValueError(f"regions: neither a city's code nor a datacenter can be empty or {AUTOMATIC!r}")
        return self
