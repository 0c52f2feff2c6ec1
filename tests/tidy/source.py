"""What the checks share: which files there are, and C without its comments and strings."""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])


def tracked(*patterns):
    """Paths of the tracked files, below ROOT. A copy without git (planted's) is walked instead."""
    if (ROOT / ".git").exists():
        names = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, check=True,
                               capture_output=True, text=True).stdout.split("\0")
        paths = [Path(name) for name in names if name and (ROOT / name).is_file()]
    else:
        paths = [p.relative_to(ROOT) for p in sorted(ROOT.rglob("*")) if p.is_file()]
    return [p for p in paths if not patterns or any(p.match(pattern) for pattern in patterns)]


def text(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def is_text(path):
    return b"\0" not in (ROOT / path).read_bytes()[:8192]


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def code_lines(path):
    """The file's lines with comments, strings and characters blanked out."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text(path), flags=re.S).split("\n")


def finish(findings):
    for finding in findings:
        print(finding)
    print(f"{Path(sys.argv[0]).name}: {len(findings)} findings")
    sys.exit(1 if findings else 0)
