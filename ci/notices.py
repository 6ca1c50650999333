#!/usr/bin/env python3
"""Licences of the crates that are inside the program.

`ci/notices.py` writes THIRD-PARTY-NOTICES.txt, which goes with every wheel and image: each crate, its licence, and the text that the
licence asks to be kept. `--check` fails when that file is not what the lock file makes of it, or when a crate comes from somewhere
other than crates.io or under terms that deny.toml does not allow.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTICES = ROOT / "THIRD-PARTY-NOTICES.txt"
TEXTS = re.compile(r"(licen[cs]e|copying|notice|copyright)", re.IGNORECASE)


def crates():
    """The packages that the program is linked with on Linux: no build scripts' own, no tests'."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    own = next(id for id, package in packages.items() if package["name"] == "eqprop-cuda")
    found, waiting = set(), [own]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    linked = sorted((packages[id] for id in found), key=lambda package: (package["name"], package["version"]))
    return [package for package in linked if package["source"] is not None]


def allowed(expression, terms):
    """Whether an SPDX expression can be met with `terms`: every AND by one OR each."""
    expression = expression.replace("/", " OR ")
    if "(" in expression:
        inner = re.search(r"\(([^()]*)\)", expression)
        value = "yes" if allowed(inner[1], terms) else "no"
        return allowed(expression[: inner.start()] + value + expression[inner.end() :], terms)
    return all(any(term.strip() in terms | {"yes"} for term in part.split(" OR ")) for part in expression.split(" AND "))


def notices(packages):
    text = "eqprop-cuda contains the crates below. A text that several of them share is printed once, below the first.\n"
    printed = {}
    for package in packages:
        text += f"\n{'=' * 100}\n{package['name']} {package['version']}: {package['license']}\n"
        if package["repository"]:
            text += f"{package['repository']}\n"
        folder = pathlib.Path(package["manifest_path"]).parent
        files = sorted(path for path in folder.iterdir() if path.is_file() and TEXTS.search(path.name))
        for path in files:
            content = "\n".join(line.rstrip() for line in path.read_text(errors="replace").splitlines()).strip()
            if content in printed:
                text += f"\n({path.name}: as of {printed[content]})\n"
            else:
                printed[content] = f"{package['name']} {package['version']}, {path.name}"
                text += f"\n{content}\n"
    return text


def main():
    packages = crates()
    terms = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    wrong = [f"{p['name']} {p['version']}: {p['license']}" for p in packages if not allowed(p["license"] or "none", terms)]
    wrong += [f"{p['name']} comes from {p['source']}" for p in packages if "crates.io" not in p["source"]]
    if wrong:
        sys.exit("not allowed by deny.toml:\n  " + "\n  ".join(wrong))
    text = notices(packages)
    if "--check" not in sys.argv[1:]:
        NOTICES.write_text(text)
    elif not NOTICES.exists() or NOTICES.read_text() != text:
        sys.exit(f"{NOTICES.name} is not that of Cargo.lock: run ci/notices.py")
    print(f"{len(packages)} crates, all under terms that deny.toml allows")


if __name__ == "__main__":
    main()
