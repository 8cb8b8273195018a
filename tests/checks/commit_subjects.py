"""Check that commit subjects read `area: Imperative sentence` with at most 72 characters; run by `make check`."""

import re
import subprocess
import sys

START = "eb7e4a9"  # commits after this one are checked; a shallow clone may not have it
MAX_LENGTH = 72
SUBJECT = re.compile(r"[a-z][a-z0-9_./-]*: [A-Z`].*[^.\s]")


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)


def subjects() -> list[str]:
    """Return the subjects since START, without merges; only the newest one if START is missing."""
    if git("merge-base", "--is-ancestor", START, "HEAD").returncode == 0:
        log = git("log", "--no-merges", "--format=%s", f"{START}..HEAD")
    else:
        log = git("log", "--no-merges", "--format=%s", "--max-count=1")
    return log.stdout.splitlines()


def main() -> int:
    """Print the invalid subjects; return 1 if there are any."""
    invalid = [text for text in subjects() if len(text) > MAX_LENGTH or not SUBJECT.fullmatch(text)]
    for text in invalid:
        print(f"commit subject must be `area: Imperative sentence` of at most {MAX_LENGTH} characters: {text}")
    return 1 if invalid else 0


if __name__ == "__main__":
    sys.exit(main())
