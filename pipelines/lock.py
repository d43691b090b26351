"""Write requirements.lock for the Docker image: all packages of requirements.txt with version and SHA-256.

    python3.11 pipelines/lock.py            (run again whenever requirements.txt changes)

The wheels are for the Python and platform it runs on: run it where the image is built (Linux, x86_64, Python 3.11).
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Write what pip would install."""
    arguments = [
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--report",
        "-",
        "-r",
        str(ROOT / "requirements.txt"),
    ]
    finished = subprocess.run([sys.executable, "-m", "pip", *arguments], stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        sys.exit("error: pip did not find all packages, see above; requirements.lock is unchanged")
    lines = [
        "# Made by pipelines/lock.py from requirements.txt, for "
        f"{platform.system()} {platform.machine()}, Python {'.'.join(platform.python_version_tuple()[:2])}."
    ]
    for item in sorted(json.loads(finished.stdout)["install"], key=lambda item: item["metadata"]["name"].lower()):
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        lines.append(f"{name}=={version} --hash=sha256:{item['download_info']['archive_info']['hashes']['sha256']}")
    (ROOT / "requirements.lock").write_text("\n".join(lines) + "\n")
    print(f"requirements.lock: {len(lines) - 1} packages")


if __name__ == "__main__":
    main()
