"""`[deployment]`: how certificates get onto load balancers, as settings."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DeploymentSettings(BaseModel):
    """`[deployment]`: how certificates get onto load balancers (docs/deployment.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wait: float = Field(
        20.0,
        ge=0,
        le=25,
        description="Seconds that attaching and detaching wait for the proof; clients time out at 30. What takes longer"
        " goes on by itself",
    )
    parallel: int = Field(
        10, ge=1, le=200, description="Listeners that are changed at once, after the first one is proven"
    )
    in_flight: int = Field(8, ge=1, le=100, description="Deployments at once per worker")
    tries: int = Field(
        3, ge=1, le=10, description="Tries of one listener within an attempt when its target doesn't answer"
    )
    look_minutes: float = Field(
        5.0, ge=0.05, le=1440, description="Minutes between two looks at what every listener holds and serves"
    )
    drift: Literal["repair", "report"] = Field(
        "repair", description="What becomes of a listener that somebody else has changed"
    )
