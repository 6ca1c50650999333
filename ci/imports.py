#!/usr/bin/env python3
"""Which file of src/ and of ptx-interpreter/src/ knows which: no two files import each other in a circle, no lower room knows a higher
one, and only cli knows clap.

`ci/imports.py [FOLDER]` reads both trees (or that one) and fails when there is a circle, which it prints. A file knows another when a
path in it ends at an item of the other: through `use`, written out, or through the re-exports of a `mod.rs`, which are followed to
where the item is defined; a method from an `impl` away from its type counts where its name is unlike every other. Modules for tests do
not count. Before that, it tries itself on made-up trees with and without such mistakes.
"""

import pathlib
import re
import sys
import tempfile

# From the lowest to the highest. A room may know those before it; those on one line know nothing of each other.
ROOMS = [
    "shown usage",
    "pickle",
    "choice",
    "network data",
    "error",
    "optim",
    "phase",
    "feedforward",
    "cpu cuda",
    "device",
    "parallel",
    "learn",
    "config",
    "run",
    "diagnose parity sweep torch track",
    "plot",
    "cli",
]

# The same of ptx-interpreter/src.
INTERPRETER_ROOMS = [
    "text number",
    "finding options",
    "program memory",
    "report",
    "machine",
    "execute",
    "launch",
]

ITEM = re.compile(r"\b(?:fn|struct|enum|trait|type|const|static|union)\s+(\w+)|\bmacro_rules!\s*(\w+)")
USE = re.compile(r"\buse\s+([^;]+);")
PATH = re.compile(r"(?<![\w:$])(\w+(?:::\w+)+)")
MODULE = re.compile(r"\bmod \w+ \{")
IMPL = re.compile(r"^impl(?:<[^{]*?>)?\s+([\w:]+)(?:<[^{]*?>)?\s*(?:where[^{]*)?\{", re.M)


def without_comments(text):
    """The text without comments, texts in quotes and modules for tests."""
    text = re.sub(r'r(#+)".*?"\1|//[^\n]*|/\*.*?\*/|b?"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\'\\])\'', "", text, flags=re.S)
    while test := re.search(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?mod \w+ \{", text):
        text = text[: test.start()] + text[block_end(text, test.end()) :]
    return text


def within_the_file(text):
    """In a module inside the file, `super` is the file: `self`, seen from outside."""
    start = 0
    while inner := MODULE.search(text, start):
        start, end = inner.end(), block_end(text, inner.end())
        text = text[:start] + re.sub(r"(?<![\w:])super\b(?=::)", "self", text[start:end]) + text[end:]
    return text


def block_end(text, start):
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at + 1
    return len(text)


def expanded(tree):
    """The paths of what follows `use`, each with the name that it has from there."""
    tree = tree.strip()
    if (brace := tree.find("{")) >= 0:
        depth, part, parts = 0, "", []
        for letter in tree[brace + 1 : tree.rindex("}")]:
            depth += {"{": 1, "}": -1}.get(letter, 0)
            if letter == "," and depth == 0:
                parts, part = [*parts, part], ""
            else:
                part += letter
        for part in filter(str.strip, [*parts, part]):
            for path, name in expanded(part):
                yield tree[:brace].strip().split("::")[:-1] + path, name
        return
    path, _, alias = (word.strip() for word in tree.partition(" as "))
    path = path.split("::")
    yield path, alias or path[-1]


class File:
    def __init__(self, module, text):
        self.module = module
        self.text = within_the_file(re.sub(r"\bpub\(in [\w:]+\)", "", without_comments(text)))
        self.items = {a or b for a, b in ITEM.findall(self.text)}
        self.uses, self.globs = {}, []
        for tree in USE.findall(self.text):
            for path, name in expanded(tree):
                if path[-1] == "self":
                    path, name = path[:-1], path[-2] if name == "self" else name
                if path[-1] == "*":
                    self.globs.append(path[:-1])
                else:
                    self.uses[name] = path


class Tree:
    def __init__(self, folder):
        self.files = {}
        for path in sorted(folder.rglob("*.rs")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] in ("mod", "lib") else parts
            if parts != ("main",):
                self.files[parts] = File(parts, path.read_text())

    def resolve(self, path, module, seen=frozenset()):
        """The module in whose file an item is defined; `None` when it is of another crate."""
        if (module, tuple(path)) in seen:
            return None
        seen = seen | {(module, tuple(path))}
        first, rest = path[0], path[1:]
        if first == "crate":
            here = ()
        elif first == "self":
            here = module
        elif first == "super":
            here = module[:-1]
        else:
            here, rest = module, path
        for at, segment in enumerate(rest):
            if segment == "super":
                here = here[:-1]
            elif here + (segment,) in self.files:
                here = here + (segment,)
            else:
                file = self.files[here]
                if segment in file.items:
                    return here
                if segment in file.uses and file.uses[segment][0] == segment:
                    return None
                if segment in file.uses:
                    return self.resolve(file.uses[segment] + rest[at + 1 :], here, seen)
                for glob in (g for g in file.globs if g[0] in ("crate", "self", "super")):
                    if found := self.resolve(glob + rest[at:], here, seen):
                        return found
                return here if first in ("crate", "self", "super") or at > 0 else None
        return here

    def imports(self):
        """Of each file those that it knows."""
        edges = {module: set() for module in self.files}

        def knows(module, path):
            if (found := self.resolve(path, module)) not in (None, module):
                edges[module].add(found)

        methods = {}
        for module, file in self.files.items():
            for path in [*file.uses.values(), *file.globs]:
                knows(module, path)
            for path in PATH.findall(USE.sub("", file.text)):
                knows(module, path.split("::"))
            for impl in IMPL.finditer(file.text):
                home = self.resolve(impl[1].split("::"), module)
                body = file.text[impl.end() : block_end(file.text, impl.end())]
                for name in re.findall(r"\bfn (\w+)", body) if home not in (None, module) else []:
                    methods[name] = module
        everywhere = [name for file in self.files.values() for name in re.findall(r"\bfn (\w+)", file.text)]
        methods = {name: module for name, module in methods.items() if everywhere.count(name) == 1}
        for module, file in self.files.items():
            for name in set(re.findall(r"(?:\.|Self::)(\w+)\(", file.text)) & methods.keys():
                if methods[name] != module:
                    edges[module].add(methods[name])
        # The root only names the rooms.
        return {module: known - {()} for module, known in edges.items() if module}


def circles(edges):
    """A shortest circle through each group of files that reach each other."""
    found, done = [], set()
    for start in sorted(edges):
        if start in done:
            continue
        back, waiting = {start: None}, [start]
        while waiting:
            here = waiting.pop(0)
            if start in edges[here]:
                circle = [start]
                while here != start:
                    circle.insert(1, here)
                    here = back[here]
                found.append([*circle, start])
                done.update(circle)
                break
            for there in sorted(edges[here] - back.keys()):
                back[there] = here
                waiting.append(there)
    return found


def complaints(folder, rooms=None):
    rooms = rooms or ROOMS
    floor = {room: at for at, line in enumerate(rooms) for room in line.split()}
    tree = Tree(folder)
    edges = tree.imports()
    named = "::".join
    said = ["a circle: " + " -> ".join(map(named, circle)) for circle in circles(edges)]
    for module, known in sorted(edges.items()):
        if module[0] not in floor:
            said.append(f"{module[0]}: a room that ROOMS does not have")
        for other in sorted(known):
            if module[0] != other[0] and floor.get(module[0], 0) <= floor.get(other[0], 0):
                said.append(f"a lower room knows a higher one: {named(module)} -> {named(other)}")
    for module, file in sorted(tree.files.items()):
        if module and module[0] != ROOMS[-1] and re.search(r"\bclap::", file.text):
            said.append(f"the command line's crate away from {ROOMS[-1]}: {named(module)}")
    return said


def try_itself():
    sound = {
        "lib.rs": "mod low; mod high;",
        "low/mod.rs": "mod a; mod b; mod c; pub use a::A; pub use b::B;",
        "low/a.rs": "pub struct A; // use crate::high::H;",
        "low/b.rs": "use super::A; pub struct B(A); #[cfg(test)] pub(super) mod tests { use super::*; use crate::high::H; }",
        "low/c.rs": "pub struct C; pub(super) mod inner { use super::*; fn f(c: super::C) {} fn g(a: super::super::a::A) {} }",
        "high.rs": "use crate::low::{A, B as Other}; pub struct H;",
    }
    mistakes = {
        "through a re-export": ("low/a.rs", "use super::B; pub struct A;", "a circle: low::a -> low::b -> low::a"),
        "with its own folder's head": ("low/a.rs", "pub struct A; fn f() { super::g() }", None),
        "a path written out": ("low/a.rs", "pub struct A; fn f() { crate::low::b::B }", "a circle: low::a -> low::b -> low::a"),
        "a method from elsewhere": (
            "low/a.rs",
            "pub struct A;\nimpl A { fn f(&self) { self.away() } }",
            "a circle: low::a -> low::b -> low::a",
        ),
        "a crate for options": ("low/a.rs", "use clap::Args; pub struct A;", "the command line's crate away from cli: low::a"),
        "from a module inside": (
            "low/a.rs",
            "pub struct A; mod inner { use super::*; fn f(c: super::super::c::C) {} }",
            "a circle: low::a -> low::c -> low::a",
        ),
        "upwards": ("low/a.rs", "use crate::high as top; pub struct A; fn f() { top::H }", "a lower room knows a higher one: low::a -> high"),
    }

    def said(files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
            return complaints(pathlib.Path(folder), ["low", "high"])

    assert said(sound) == [], said(sound)
    for about, (name, text, expected) in mistakes.items():
        files = {**sound, name: text}
        if about.startswith("with"):
            files["low/mod.rs"] += " pub fn g() {}"
            expected = "a circle: low -> low::a -> low"
        if about.startswith("a method"):
            files["low/b.rs"] = "use super::A; pub struct B;\nimpl A { pub fn away(&self) {} }"
        assert expected in said(files), (about, said(files))


def main():
    try_itself()
    root = pathlib.Path(__file__).resolve().parent.parent
    trees = {root / "src": ROOMS, root / "ptx-interpreter" / "src": INTERPRETER_ROOMS}
    if len(sys.argv) > 1:
        folder = pathlib.Path(sys.argv[1]).resolve()
        trees = {folder: trees.get(folder, ROOMS)}
    said = [complaint for folder, rooms in trees.items() for complaint in complaints(folder, rooms)]
    count = sum(len(list(folder.rglob("*.rs"))) for folder in trees)
    print("\n".join(said) or f"{count} files import each other in no circle, and no lower room knows a higher one")
    sys.exit(bool(said))


main()
