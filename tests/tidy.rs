//! The rules of the tree that a machine can hold: layers, `unsafe`, headers, sizes.
//!
//! Reads the sources as text; a `#[cfg(test)]` module at the end of a file is exempt where a rule says so.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// From the inside out: each may import itself and those before it.
const PURE: [&str; 5] = ["model", "config", "policy", "service", "protocol"];

/// The layers around the pure ones.
const OUTER: [&str; 6] = ["sys", "supervisor", "roles", "control", "command", "wrap"];

/// What makes a result depend on anything but its arguments.
const IMPURE: [&str; 13] = [
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "std::os",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::time::Instant::now",
    "Instant::now",
    "SystemTime::now",
    "libc::",
    "nix::",
    "socket2::",
];

/// Of a file: its code, without comments, blank lines and tests.
const MOST_LINES: usize = 400;

#[test]
fn pure_layers_touch_nothing() {
    for layer in PURE {
        for file in sources(&format!("src/{layer}")) {
            let paths = file.paths();
            for name in IMPURE {
                assert!(!names(&paths, name), "{}: `{layer}` is pure: no `{name}`", file.name());
            }
        }
    }
}

#[test]
fn layers_point_inward() {
    for (depth, layer) in PURE.iter().enumerate() {
        let outside = PURE.iter().skip(depth + 1).chain(&OUTER);
        check_imports(layer, outside);
    }
    check_imports("sys", PURE.iter().skip(1).chain(OUTER.iter().skip(1)));
}

fn check_imports<'a>(layer: &str, outside: impl Iterator<Item = &'a &'static str>) {
    let outside: Vec<_> = outside.collect();
    for file in sources(&format!("src/{layer}")) {
        let paths = file.paths();
        for outer in &outside {
            let name = format!("crate::{outer}");
            assert!(!names(&paths, &name), "{}: `{layer}` must not know `{outer}`", file.name());
        }
    }
}

#[test]
fn only_sys_is_unsafe() {
    for file in sources("src").into_iter().filter(|file| !file.path.starts_with("src/sys")) {
        for line in without_comments(&file.text).lines() {
            let found = words(line).any(|word| word == "unsafe");
            assert!(!found, "{}: `unsafe` is for src/sys: {line}", file.name());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in all_sources() {
        assert!(file.text.starts_with("//! "), "{}: begins with a `//!` header", file.name());
    }
}

#[test]
fn nothing_is_left_undone() {
    // Spelled so that this file does not find itself.
    let marks = ["TO~DO", "FIX~ME", "dbg~!", "todo~!", "unimplemented~!", "#[ign~ore"];
    for file in all_sources() {
        for mark in marks.map(|mark| mark.replace('~', "")) {
            assert!(!file.text.contains(&mark), "{}: has `{mark}`", file.name());
        }
    }
}

#[test]
fn files_have_one_subject() {
    for file in sources("src") {
        let code = without_comments(file.shipped());
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= MOST_LINES, "{}: {lines} lines of code, {MOST_LINES} at most", file.name());
    }
}

/// Which registry is used is cargo's own setting: a name here would bind everybody's mirror.
#[test]
fn no_registry_is_named() {
    let host = ["crates", "io"].join(".");
    for name in ["Cargo.toml", "deny.toml", "README.md", ".ci/run"] {
        let text = fs::read_to_string(root().join(name)).expect(name);
        assert!(!text.contains(&host), "{name}: names a registry host");
        let named = text.lines().any(|line| line.trim_start().starts_with("registry"));
        assert!(!named, "{name}: names a registry");
    }
}

/// `src/x.rs` is a file, `tests/x.rs::name` a function in it, `a::b` in the map of the crate a module.
#[test]
fn documents_name_what_is_there() {
    for name in ["docs/architecture.md", "docs/threat-model.md", "docs/differences.md", "docs/performance.md"]
    {
        let text = fs::read_to_string(root().join(name)).expect(name);
        for (path, function) in code_spans(&text).filter_map(file_and_function) {
            let source = fs::read_to_string(root().join(path));
            assert!(source.is_ok(), "{name}: there is no {path}");
            let found = source.is_ok_and(|source| source.contains(&format!("fn {function}(")));
            assert!(function.is_empty() || found, "{name}: there is no `{function}` in {path}");
        }
    }
    let map = fs::read_to_string(root().join("src/lib.rs")).expect("the map");
    for module in code_spans(&map).filter(|span| span.contains("::")) {
        let path = format!("src/{}.rs", module.replace("::", "/"));
        assert!(root().join(&path).exists(), "src/lib.rs: there is no {path}");
    }
}

/// What stands between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The function is empty where a file alone is named.
fn file_and_function(span: &str) -> Option<(&str, &str)> {
    let (path, function) = span.split_once("::").unwrap_or((span, ""));
    path.strip_suffix(".rs")?.contains('/').then_some((path, function))
}

#[test]
fn imports_are_read_as_the_compiler_does() {
    let text =
        "use std::{fs, io::{self, Read as _}};\npub use crate::sys;\nfn f() { libc::fork(); } // std::env\n";
    let file = Source { path: PathBuf::new(), text: text.to_owned() };
    let paths = file.paths();
    for (name, expected) in [
        ("std::fs", true),
        ("std::io::Read", true),
        ("crate::sys", true),
        ("libc::", true),
        ("std::env", false),
        ("crate::s", false),
    ] {
        assert_eq!(names(&paths, name), expected, "{name}");
    }
}

#[test]
fn a_test_module_is_not_shipped() {
    let text = "//! x\nfn a() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    let file = Source { path: PathBuf::new(), text: text.to_owned() };
    assert_eq!(file.shipped(), "//! x\nfn a() {}\n");
    assert!(!names(&file.paths(), "std::fs"));
}

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Without the test module at the end, or nothing where the whole file is one.
    fn shipped(&self) -> &str {
        if self.path.ends_with("tests.rs") || self.path.components().any(|part| part.as_os_str() == "tests") {
            return "";
        }
        self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    /// Every path that the shipped part names: imports, taken apart, and the rest as it stands.
    fn paths(&self) -> String {
        let code = without_comments(self.shipped());
        let mut paths = String::new();
        for statement in code.split(';') {
            match statement.split("use ").last().filter(|_| is_import(statement)) {
                Some(tree) => expand("", tree.trim(), &mut paths),
                None => paths.push_str(statement),
            }
            paths.push('\n');
        }
        paths
    }
}

fn is_import(statement: &str) -> bool {
    let last = statement.trim_start().rsplit('\n').find(|line| line.contains("use ")).unwrap_or_default();
    let line = last.trim_start();
    line.starts_with("use ") || line.starts_with("pub use ") || line.starts_with("pub(")
}

/// `std::{fs, io::{self, Read}}` is `std::fs`, `std::io`, `std::io::Read`, a line each.
fn expand(prefix: &str, tree: &str, paths: &mut String) {
    let Some((head, inner)) = tree.split_once('{') else {
        let leaf = tree.split(" as ").next().unwrap_or_default().trim();
        paths.push_str(&format!("{prefix}{leaf}").replace("::self", ""));
        paths.push('\n');
        return;
    };
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0, 0);
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = inner.get(start..at).unwrap_or_default().trim();
                if !item.is_empty() {
                    expand(&format!("{prefix}{}", head.trim()), item, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Is `name` named as a whole: not as the beginning or the end of a longer word?
fn names(paths: &str, name: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    paths.match_indices(name).any(|(at, _)| {
        let before = paths.get(..at).and_then(|text| text.chars().next_back());
        let after = paths.get(at + name.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(in_word) && (name.ends_with(':') || !after.is_some_and(in_word))
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

fn all_sources() -> Vec<Source> {
    ["src", "tests"].into_iter().flat_map(sources).collect()
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { path: path.strip_prefix(root()).unwrap().to_owned(), text });
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
