#!/usr/bin/env python3
"""Makes what a package has beside its program and what is in the repository, in packaging/made:

- completions and pages for man(1), by the program itself;
- the configuration, with the state directory that the unit has, so that commands at the machine find it, too;
- the licences of all crates that are linked into it, and a list of them (CycloneDX).

    packaging/prepare.py PROGRAM
"""

import gzip
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
MADE = ROOT / "packaging" / "made"
# The standard texts, as SPDX has them, by their names there.
STANDARD = ROOT / "packaging" / "licenses"
COMPLETIONS = {"bash": "wagate", "zsh": "_wagate", "fish": "wagate.fish"}
# As files of licences are called, whatever follows.
NAMES = ("licen", "copying", "notice", "unlicense", "copyright")
AGPL = "SPDX-License-Identifier: AGPL-3.0"


def compressed(text: bytes) -> bytes:
    """The same bytes for the same text, whenever it is made."""
    return gzip.compress(text, 9, mtime=0)


def commands(program: pathlib.Path) -> None:
    for shell, name in COMPLETIONS.items():
        script = subprocess.run([program, "completions", shell], check=True, stdout=subprocess.PIPE)
        (MADE / name).write_bytes(script.stdout)
    pages = MADE / "man"
    pages.mkdir()
    subprocess.run([program, "man", pages], check=True)
    for page in pages.iterdir():
        page.with_name(page.name + ".gz").write_bytes(compressed(page.read_bytes()))
        page.unlink()


def configuration() -> None:
    text = (ROOT / "examples" / "wagate.toml").read_text()
    default = '# state_dir = "wagate-data"\n'
    assert text.count(default) == 1
    (MADE / "wagate.toml").write_text(text.replace(default, 'state_dir = "/var/lib/wagate"\n'))


def target() -> str:
    """What programs that are built here run on."""
    told = subprocess.run(["rustc", "-vV"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    [host] = [line.removeprefix("host: ") for line in told.splitlines() if line.startswith("host: ")]
    return host


def linked() -> list[dict]:
    """The crates that are linked into the program, or build it; not those of tests, nor of features that it lacks."""
    def cargo(*words: str) -> str:
        command = ["cargo", *words, "--locked"]
        return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout

    tree = cargo(
        "tree", "--package", "wagate", "--edges", "normal,build", "--prefix", "none", "--format", "{p}",
        "--target", target(),
    )
    there = {tuple(line.split()[:2]) for line in tree.splitlines()}
    told = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", target()))
    others = [
        it for it in told["packages"]
        if it["source"] is not None and (it["name"], f"v{it['version']}") in there
    ]
    return sorted(others, key=lambda it: (it["name"], it["version"]))


def texts(package: dict) -> list[str]:
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [it for it in folder.iterdir() if it.is_file() and it.name.lower().startswith(NAMES)]
    return [it.read_text(errors="replace").strip() for it in sorted(files)]


def authors(package: dict) -> str:
    return ", ".join(package["authors"]) or package["repository"] or f"the authors of {package['name']}"


def standard(package: dict) -> list[str]:
    """The texts of the first of the declared licences that all are here; for a crate without a text of its own."""
    for choice in re.split(r" OR |/", package["license"] or ""):
        files = [STANDARD / f"{name.strip('() ')}.txt" for name in choice.split(" AND ")]
        if all(it.is_file() for it in files):
            # Only that of MIT says whose it is.
            return [it.read_text().strip().replace("<year> <copyright holders>", authors(package)) for it in files]
    sys.exit(f"{package['name']} has no text of its licence, and packaging/licenses none of {package['license']}")


def sources_under_agpl(package: dict) -> int:
    folder = pathlib.Path(package["manifest_path"]).parent
    files = (it for it in folder.rglob("*.rs") if it.is_file())
    return sum(AGPL in it.read_text(errors="replace")[:2000] for it in files)


def licences(packages: list[dict]) -> str:
    whose: dict[str, list[str]] = {}
    lines = [
        "Crates that are linked into wagate, with the licence that each declares; their texts follow, each",
        "once. For a crate without a text of its own it is the standard text of what it declares.",
        "",
    ]
    for package in packages:
        name = f"{package['name']} {package['version']}"
        line = f"{name}: {package['license'] or 'see its text'}"
        count = sources_under_agpl(package)
        if count:
            line += f"; {count} of its files say AGPL-3.0-only in their headers"
        lines.append(line)
        for text in texts(package) or standard(package):
            whose.setdefault(text, []).append(name)
    for text, names in sorted(whose.items(), key=lambda it: it[1]):
        lines += ["", "=" * 100, ", ".join(names), "=" * 100, "", text]
    return "\n".join(lines) + "\n"


def headers(package: dict) -> dict:
    """What its files say that it does not declare."""
    count = sources_under_agpl(package)
    if not count:
        return {}
    return {
        "evidence": {"licenses": [{"license": {"id": "AGPL-3.0-only"}}]},
        "properties": [{"name": "wagate:headers", "value": f"{count} of its files say AGPL-3.0-only in their headers"}],
    }


def bill(packages: list[dict], version: str) -> str:
    """CycloneDX 1.5. Its serial number is of its content, so that the same is the same."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:cargo/{it['name']}@{it['version']}",
            "name": it["name"],
            "version": it["version"],
            "purl": f"pkg:cargo/{it['name']}@{it['version']}",
            **({"licenses": [{"expression": it["license"].replace("/", " OR ")}]} if it["license"] else {}),
            **headers(it),
        }
        for it in packages
    ]
    digest = hashlib.sha256(json.dumps(components).encode()).digest()
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=5)}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "wagate", "version": version}},
        "components": components,
    }
    return json.dumps(document, indent=1) + "\n"


def main() -> None:
    program = pathlib.Path(sys.argv[1]).resolve()
    shutil.rmtree(MADE, ignore_errors=True)
    MADE.mkdir(parents=True)
    commands(program)
    configuration()
    packages = linked()
    version = subprocess.run([program, "--version"], check=True, stdout=subprocess.PIPE, text=True)
    (MADE / "third-party-licences.txt.gz").write_bytes(compressed(licences(packages).encode()))
    (MADE / "wagate.cdx.json").write_text(bill(packages, version.stdout.split()[1]))
    size = program.stat().st_size / (1 << 20)
    print(f"{len(packages)} crates; the program has {size:.1f} MiB")


main()
