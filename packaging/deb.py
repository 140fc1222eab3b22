#!/usr/bin/env python3
"""Makes the Debian package with dpkg-deb alone, from the list that `cargo deb` goes by: [package.metadata.deb]
in Cargo.toml. After packaging/prepare.py.

    packaging/deb.py PROGRAM FOLDER [VERSION]
"""

import glob
import gzip
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "target/release/wagate"
# As dpkg-deb calls it; tests are in a hurry.
COMPRESSION = os.environ.get("COMPRESSION", "xz")


def run(*command: str | pathlib.Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def libraries(program: pathlib.Path) -> str:
    """What `$auto` stands for: the C library, of the version whose symbols are used, and libgcc."""
    said = run("readelf", "--wide", "--version-info", "--dynamic", program)
    versions = [tuple(map(int, it.split("."))) for it in re.findall(r"GLIBC_([0-9.]+)", said)]
    least = ".".join(map(str, max(versions, default=(2, 34))))
    needs = [f"libc6 (>= {least})"]
    if "libgcc_s.so.1" in said:
        needs.append("libgcc-s1")
    return ", ".join(needs)


def place(assets: list[list[str]], program: pathlib.Path, root: pathlib.Path) -> None:
    for source, target, mode in assets:
        if source == PROGRAM:
            files = [program]
        else:
            files = [pathlib.Path(it) for it in sorted(glob.glob(str(ROOT / source)))]
        if not files:
            sys.exit(f"nothing is called {source}")
        for file in files:
            path = root / target / file.name if target.endswith("/") else root / target
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, path)
            path.chmod(int(mode, 8))


def main() -> None:
    program, folder = (pathlib.Path(it).resolve() for it in sys.argv[1:3])
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    deb = manifest["package"]["metadata"]["deb"]
    version = sys.argv[3] if len(sys.argv) > 3 else manifest["workspace"]["package"]["version"] + "-1"
    architecture = run("dpkg", "--print-architecture").strip()
    moment = os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct").strip()
    os.environ["SOURCE_DATE_EPOCH"] = moment
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as staging:
        root = pathlib.Path(staging) / "root"
        root.mkdir(mode=0o755)
        place(deb["assets"], program, root)
        documents = root / "usr/share/doc/wagate"
        documents.mkdir(parents=True, exist_ok=True)
        (documents / "copyright").write_text((ROOT / "LICENSE").read_text())
        history = f"wagate ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n" \
            f" -- {deb['maintainer']}  {run('date', '-uR', '-d', '@' + moment)}"
        (documents / "changelog.Debian.gz").write_bytes(gzip.compress(history.encode(), 9, mtime=0))

        files = sorted(it for it in root.rglob("*") if it.is_file())
        size = sum(it.stat().st_size for it in files) // 1024
        sums = [f"{hashlib.md5(it.read_bytes()).hexdigest()}  {it.relative_to(root)}\n" for it in files]
        about = root / "DEBIAN"
        about.mkdir()
        fields = {
            "Package": "wagate",
            "Version": version,
            "Architecture": architecture,
            "Maintainer": deb["maintainer"],
            "Installed-Size": str(size),
            "Depends": deb["depends"].replace("$auto", libraries(program)),
            "Recommends": deb["recommends"],
            "Section": deb["section"],
            "Priority": deb["priority"],
            "Description": manifest["package"]["description"].rstrip(".") + "\n "
            + deb["extended-description"].strip().replace("\n", "\n "),
        }
        (about / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        (about / "conffiles").write_text("".join(f"{it}\n" for it in deb["conf-files"]))
        (about / "md5sums").write_text("".join(sums))
        for script in sorted((ROOT / deb["maintainer-scripts"]).iterdir()):
            shutil.copyfile(script, about / script.name)
            (about / script.name).chmod(0o755)
        for path in [root, *root.rglob("*")]:
            os.utime(path, (int(moment), int(moment)))
        folder.mkdir(parents=True, exist_ok=True)
        package = folder / f"wagate_{version}_{architecture}.deb"
        run("dpkg-deb", "--root-owner-group", "--build", f"-Z{COMPRESSION}", root, package)
    print(package)


main()
