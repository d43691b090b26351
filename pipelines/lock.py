"""Write requirements.lock: requirements.txt and all it draws in, each with its version and SHA-256, for the image.

    python3.11 pipelines/lock.py            (again whenever requirements.txt changes)

Holds wheels for the Python and machine that it runs on: run it where the image is built (Linux, x86_64, Python 3.11).
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Ask pip what it would install, and write that down."""
    ask = [
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--report",
        "-",
        "-r",
        str(ROOT / "requirements.txt"),
    ]
    ended = subprocess.run([sys.executable, "-m", "pip", *ask], stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        sys.exit("error: pip has not found all packages, see above; requirements.lock stays as it was")
    lines = [
        "# Made by pipelines/lock.py from requirements.txt, for "
        f"{platform.system()} {platform.machine()}, Python {'.'.join(platform.python_version_tuple()[:2])}."
    ]
    for item in sorted(json.loads(ended.stdout)["install"], key=lambda item: item["metadata"]["name"].lower()):
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        lines.append(f"{name}=={version} --hash=sha256:{item['download_info']['archive_info']['hashes']['sha256']}")
    (ROOT / "requirements.lock").write_text("\n".join(lines) + "\n")
    print(f"requirements.lock: {len(lines) - 1} packages")


if __name__ == "__main__":
    main()
