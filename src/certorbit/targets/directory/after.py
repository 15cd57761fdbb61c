"""The operator's command after a change."""

from certorbit.errors import TargetRefused
from certorbit.target_settings.directory import DirectoryTargetSettings
from certorbit.targets.commands import run_command
from certorbit.targets.file_layout import Place
from certorbit.targets.words import show_words


class CommandAfter:
    """`file_layout.Activation` for directories."""

    def __init__(self, settings: DirectoryTargetSettings) -> None:
        self._settings = settings

    async def test(self, place: Place) -> None:
        """Nothing can be said before the command has run."""

    async def load(self, place: Place) -> None:
        """Run the command. Raises TargetRefused if it fails or hangs."""
        if not self._settings.command:
            return
        name = self._settings.name
        outcome = await run_command(
            self._settings.command,
            seconds=self._settings.timeout_seconds,
            target=name,
            environment={
                "TARGET_NAME": name,
                "TARGET_LISTENER": place.key.listener,
                "TARGET_FOLDER": f"{self._settings.directory}/{place.folder}",
            },
        )
        if outcome.status != 0:
            raise TargetRefused(
                f"Target {name}: the command {self._settings.command[0]!r} failed with status {outcome.status}:"
                f" {show_words(outcome.output)}",
                subject=str(place.key),
            )
