"""What `certorbit targets check` looks at with nginx."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from certorbit.errors import DeployFailed
from certorbit.ports.target import Finding, Grade
from certorbit.target_settings.nginx import NginxListener, NginxTargetSettings
from certorbit.targets.commands import Outcome, run_command
from certorbit.targets.files import Rights, in_thread
from certorbit.targets.nginx.clients import Parts, find_gaps
from certorbit.targets.nginx.configuration import read_dump
from certorbit.targets.nginx.reload import find_absence, find_workers
from certorbit.targets.words import show_words


async def check_nginx(
    settings: NginxTargetSettings,
    *,
    includes: Mapping[str, NginxListener],
    checked: Mapping[str, Parts],
    rights: Rights,
) -> Sequence[Finding]:
    """Return whether nginx accepts its configuration, includes our files, can be watched, and can read our files.

    includes: the include file's path of each listener. checked: those that check clients, or may be told to, by key.
    """
    findings = list(await _check_configuration(settings, includes, checked))
    workers = await in_thread(lambda: find_workers(settings.pid_file))
    findings.append(await in_thread(lambda: _look_for_master(settings.pid_file, workers=len(workers))))
    if any(listener.sni for listener in includes.values()) and workers:
        findings.append(await in_thread(lambda: _check_reading(settings.directory, min(workers), rights)))
    return findings


def _look_for_master(pid_file: str, *, workers: int) -> Finding:
    """Return whether nginx runs, as its pid_file says. Without a master each reload fails, and so each change."""
    if workers:
        return Finding("reach", Grade.OK, f"nginx runs with {workers} serving workers.")
    if pid_file and (absent := find_absence(pid_file)):
        message = (
            f"nginx does not run: {absent}. Start it; if it runs out of our sight, in another container, set"
            ' pid_file = "".'
        )
        return Finding("reach", Grade.FAILED, message)
    message = (
        f"No workers of nginx are seen by pid_file {pid_file!r}, so nobody waits for a reload to end; the proof does."
    )
    return Finding("reach", Grade.WARNING, message)


async def _check_configuration(
    settings: NginxTargetSettings, includes: Mapping[str, NginxListener], checked: Mapping[str, Parts]
) -> Sequence[Finding]:
    dump = settings.dump_command  # tests as well, and shows all it read
    try:
        outcome = await run_command(
            dump or settings.test_command, seconds=settings.timeout_seconds, target=settings.name
        )
    except DeployFailed as error:
        return [Finding("configuration", Grade.FAILED, error.message)]
    if outcome.status != 0:
        return [Finding("configuration", Grade.FAILED, f"nginx refuses it: {show_words(outcome.output[-2000:])}")]
    if not dump:
        accepted = Finding("configuration", Grade.OK, "The test command accepts nginx's configuration.")
        unseen = "The test_command has no word -t that could be -T, so no policy for clients is accepted. Set one."
        return [accepted, *([Finding("clients", Grade.FAILED, unseen)] if checked else [])]
    missing = [path for path in includes if f"# configuration file {path}:" not in outcome.output]
    if not missing:
        included = Finding("configuration", Grade.OK, "nginx accepts its configuration, and it includes our files.")
        return [included, *_check_clients(outcome, checked)]
    block = "http" if includes[missing[0]].sni else "server"
    message = (
        f"nginx's configuration doesn't include {', '.join(missing)}. Add `include {missing[0]};` to its {block} block."
    )
    return [Finding("configuration", Grade.FAILED, message), *_check_clients(outcome, checked)]


def _check_clients(outcome: Outcome, checked: Mapping[str, Parts]) -> list[Finding]:
    """Return for each listener whether all of its `server` blocks check clients, or will when they are told to."""
    if not checked:
        return []
    try:
        configuration = read_dump(outcome)
    except ValueError as error:
        return [Finding("clients", Grade.FAILED, f"nginx's configuration can't be read: {show_words(str(error))}.")]
    findings = []
    for listener, parts in checked.items():
        gaps = find_gaps(configuration, parts)
        message = (
            f"{listener} can't check clients: {'; '.join(gaps)}."
            if gaps
            else f"All `server` blocks of {listener} include {parts.clients}."
        )
        findings.append(Finding("clients", Grade.FAILED if gaps else Grade.OK, message))
    return findings


def _check_reading(directory: str, worker: int, rights: Rights) -> Finding:
    """Compare the worker's user and groups with the rights of our folder and files."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines())
        user, groups = (
            int(status["Uid"].split()[1]),
            {int(status["Gid"].split()[1]), *map(int, status["Groups"].split())},
        )
        owner, group = rights.find_ids()
        folder = Path(directory).stat()
        parents = [parent.stat() for parent in Path(directory).resolve().parents]
    except (OSError, ValueError, KeyError, DeployFailed) as error:
        return Finding("workers read", Grade.WARNING, f"It can't be told what nginx's workers may read: {error}.")
    owner, group = (os.geteuid() if owner < 0 else owner), (os.getegid() if group < 0 else group)

    def may(mode: int, *, owned_by: int, of_group: int, bit: int) -> bool:
        shift = 6 if user == owned_by else 3 if of_group in groups else 0
        return user == 0 or bool(mode >> shift & bit)

    enters = all(
        may(stat.S_IMODE(each.st_mode), owned_by=each.st_uid, of_group=each.st_gid, bit=1)
        for each in (folder, *parents)
    )
    if enters and may(rights.mode, owned_by=owner, of_group=group, bit=4):
        return Finding("workers read", Grade.OK, "nginx's workers may read our files.")
    return Finding(
        "workers read",
        Grade.FAILED,
        f"nginx's workers (user {user}) may not read files in {directory}: set `group` to a group of theirs, and let it"
        " enter the folder.",
    )
