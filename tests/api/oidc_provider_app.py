"""An OpenID provider of other people's, for tests: Django OAuth Toolkit, run as a program of its own on loopback.

Started as `python oidc_provider_app.py <folder>`; prints `port N`. Its people, passwords and groups are below. Consent
is asked for by its own form, PKCE is required, ID tokens are signed with RS256 by a key that is made at the start.
"""

import sys
from pathlib import Path

CLIENT_ID, CLIENT_SECRET = "certorbit-tests", "s3cret/of:the+client"
PASSWORD = "correct horse battery"
PEOPLE = {
    "ada": ["platform-admins", "staff"],
    "oscar": ["sre"],
    "vera": ["staff"],
    "nobody": [],
    "ines": ["platform-admins", "key-keepers"],
}


def main(folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="tests alone",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "provider.db")}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": ["django.contrib.auth.context_processors.auth"],
                    "loaders": [
                        (
                            "django.template.loaders.locmem.Loader",
                            {"registration/login.html": "<form method=post>{% csrf_token %}{{ form }}</form>"},
                        ),
                        "django.template.loaders.app_directories.Loader",
                    ],
                },
            }
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        LOGIN_URL="/login/",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": pem,
            "PKCE_REQUIRED": True,
            "OAUTH2_VALIDATOR_CLASS": f"{__name__}.make_validator",
            "SCOPES": {"openid": "sign in", "profile": "name", "email": "email"},
            "ALLOWED_REDIRECT_URI_SCHEMES": ["http"],
        },
    )
    settings.TEMPLATES[0].pop("APP_DIRS")
    django.setup()
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    call_command("migrate", verbosity=0)
    add_people()
    from wsgiref.simple_server import make_server

    server = make_server("127.0.0.1", 0, get_wsgi_application())
    print("port", server.server_port, flush=True)  # noqa: T201 - whoever started it reads this
    server.serve_forever()


def add_people() -> None:
    from django.contrib.auth.models import Group, User

    for name, groups in PEOPLE.items():
        user = User.objects.create_user(name, email=f"{name}@example.test", password=PASSWORD)
        for group in groups:
            user.groups.add(Group.objects.get_or_create(name=group)[0])


def register_client(redirect_uri: str) -> None:
    from oauth2_provider.models import Application

    Application.objects.update_or_create(
        client_id=CLIENT_ID,
        defaults={
            "client_secret": CLIENT_SECRET,
            "redirect_uris": redirect_uri,
            "client_type": "confidential",
            "authorization_grant_type": "authorization-code",
            "algorithm": "RS256",
            "name": "Certorbit",
        },
    )


def __getattr__(name: str) -> object:
    """Make what Django looks for by name, once it is set up."""
    if name == "make_validator":
        from oauth2_provider.oauth2_validators import OAuth2Validator

        class Validator(OAuth2Validator):
            oidc_claim_scope = None

            def get_additional_claims(self, request: object) -> dict[str, object]:
                user = request.user  # type: ignore[attr-defined]
                return {
                    "email": user.email,
                    "email_verified": True,
                    "groups": [group.name for group in user.groups.all()],
                }

        globals()["make_validator"] = Validator
        return Validator
    if name == "urlpatterns":
        from django.contrib.auth.views import LoginView
        from django.http import HttpRequest, HttpResponse
        from django.urls import include, path

        def register(request: HttpRequest) -> HttpResponse:
            register_client(request.GET["redirect_uri"])
            return HttpResponse("registered")

        globals()["urlpatterns"] = [
            path("login/", LoginView.as_view()),
            path("tests/register", register),  # what an administrator does in a form
            path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
        ]
        return globals()["urlpatterns"]
    raise AttributeError(name)


if __name__ == "__main__":
    sys.modules["oidc_provider_app"] = sys.modules["__main__"]
    main(Path(sys.argv[1]))
