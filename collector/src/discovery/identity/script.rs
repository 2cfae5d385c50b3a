//! What does an interpreter execute? `python3 app.py` is `app`, and not `python3.11`.
//!
//! The name of the script, of the application that a known launcher is given (`gunicorn shop.wsgi`), of the archive or
//! class (`java -jar shop-1.2.jar`), or of the package that a script of Node.js belongs to. Names that many programs give
//! their first file (`main.py`, `index.js`) say nothing, so that of the folder is taken.

use std::path::{Path, PathBuf};

/// How a process was started.
pub(super) struct Started<'a> {
    /// All of its command line, the program's own name first.
    pub(super) arguments: &'a [String],
    /// Where it works: what relative paths begin at.
    pub(super) folder: Option<&'a Path>,
    /// Reads a file as the process would see it.
    pub(super) read: &'a dyn Fn(&Path) -> Option<String>,
}

/// The name of what a process of this language executes.
pub(super) fn name(language: &str, started: &Started<'_>) -> Option<String> {
    let name = title(started).or_else(|| match language {
        "python" => python(started),
        "nodejs" => node(started),
        "java" => java(started),
        "ruby" => ruby(started),
        "php" => script(started, &["-d", "-c", "-I", "-S", "-t"], &["-r", "-e", "-a"]),
        "dotnet" => dotnet(started),
        "erlang" => erlang(started),
        _ => None,
    })?;
    is_name(&name).then_some(name)
}

/// A name that a person could have given: it becomes an attribute of every span.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

const NAME_BYTES_MAX: usize = 100;

/// A server that tells in its command line what it serves: `gunicorn: master [shop]`, `puma 6.4 (tcp://[::]:80) [shop]`.
fn title(started: &Started<'_>) -> Option<String> {
    let [only] = started.arguments else { return None };
    let known = ["gunicorn: ", "puma ", "puma: "].iter().any(|start| only.starts_with(start));
    let (_, name) = only.trim_end().strip_suffix(']').filter(|_| known)?.rsplit_once('[')?;
    Some(name.to_owned())
}

fn python(started: &Started<'_>) -> Option<String> {
    let mut arguments = started.arguments.get(1..)?.iter();
    let (program, is_module, rest) = loop {
        let argument = arguments.next()?;
        match argument.as_str() {
            "-c" => return None,
            "-m" => break (arguments.next()?, true, arguments.as_slice()),
            "-W" | "-X" | "--check-hash-based-pycs" => drop(arguments.next()),
            option if option.starts_with('-') => {}
            _ => break (argument, false, arguments.as_slice()),
        }
    };
    let stem = file_stem(program, &[".py", ".pyc", ".pyz"]);
    match stem {
        "gunicorn" | "uvicorn" | "hypercorn" | "daphne" | "granian" | "waitress-serve" | "waitress" => {
            let application = rest.iter().find_map(|argument| module_of(argument));
            application.and_then(|module| plain_module(module, started)).or_else(|| Some(stem.to_owned()))
        }
        "celery" => following(rest, &["-A", "--app"]).and_then(|module| plain_module(module, started)),
        "flask" => {
            let application = following(rest, &["-A", "--app"]);
            application.map_or_else(|| folder(started), |module| plain_module(module, started))
        }
        _ if is_module => plain_module(program, started),
        _ => of_path(program, stem, started),
    }
}

/// `shop.wsgi:application`, `main:app`, and `shop.wsgi`: not `127.0.0.1:80` or `gunicorn.conf.py`.
fn module_of(argument: &str) -> Option<&str> {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let (module, attribute) = match argument.split_once(':') {
        Some((module, attribute)) => (module, Some(attribute)),
        None => (argument, None),
    };
    let attribute = attribute.map(|text| text.split(['(', '.']).next().unwrap_or(text));
    let called = matches!(module.rsplit('.').next(), Some("wsgi" | "asgi"));
    (module.split('.').all(is_word) && attribute.map_or(called, is_word)).then_some(module)
}

/// `shop.wsgi` is `shop`, and so is `shop.api.v1`; where nothing but usual words is left, the folder says more.
fn plain_module(module: &str, started: &Started<'_>) -> Option<String> {
    let module = module.split(':').next().unwrap_or(module);
    let said = module.split('.').find(|word| !is_usual(word) && !USUAL_FOLDERS.contains(word));
    said.map(str::to_owned).or_else(|| folder(started)).or_else(|| Some(module.to_owned()))
}

fn node(started: &Started<'_>) -> Option<String> {
    let with_value =
        ["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"];
    let path = operand(started.arguments, &with_value, &["-e", "--eval", "-p", "--print"])?;
    let absolute = started.folder.map_or_else(|| PathBuf::from(path), |folder| folder.join(path));
    // What was installed beside an application (`next start`) belongs to it.
    let installed = absolute.components().any(|part| part.as_os_str() == "node_modules");
    let from = if installed { started.folder } else { absolute.parent() };
    let packages = from.into_iter().flat_map(Path::ancestors).take(PARENTS_MAX);
    let package = packages.filter_map(|folder| (started.read)(&folder.join("package.json"))).next();
    let named = package.and_then(|text| {
        let package: serde_json::Value = serde_json::from_str(&text).ok()?;
        // `@acme/checkout`
        Some(package.get("name")?.as_str()?.rsplit('/').next()?.to_owned())
    });
    named
        .filter(|name| is_name(name))
        .or_else(|| of_path(path, file_stem(path, &[".js", ".mjs", ".cjs", ".ts", ".mts"]), started))
}

/// Folders in which a package may be.
const PARENTS_MAX: usize = 5;

fn java(started: &Started<'_>) -> Option<String> {
    let mut arguments = started.arguments.iter().skip(1);
    loop {
        match arguments.next()?.as_str() {
            "-jar" => {
                return Some(without_version(file_stem(arguments.next()?, &[".jar", ".war"])).to_owned());
            }
            "-m" | "--module" => return arguments.next()?.split('/').next().map(last_word),
            "-cp"
            | "-classpath"
            | "--class-path"
            | "-p"
            | "--module-path"
            | "--add-modules"
            | "--add-opens"
            | "--add-exports"
            | "--add-reads"
            | "--upgrade-module-path"
            | "--patch-module" => drop(arguments.next()),
            option if option.starts_with('-') || option.starts_with('@') => {}
            class => return Some(last_word(class)),
        }
    }
}

/// `com.acme.shop.Main` is `shop`, `org.acme.ShopServer` is `ShopServer`.
fn last_word(class: &str) -> String {
    let word = class.rsplit('.').find(|word| !["Main", "Application", "App", "Launcher"].contains(word));
    word.unwrap_or(class).to_owned()
}

/// `shop-1.2.3-SNAPSHOT` is `shop`.
fn without_version(name: &str) -> &str {
    let version = name.match_indices('-').find(|(at, _)| {
        name.get(at + 1..)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('.'))
    });
    version.and_then(|(at, _)| name.get(..at)).filter(|name| !name.is_empty()).unwrap_or(name)
}

fn ruby(started: &Started<'_>) -> Option<String> {
    let path = operand(started.arguments, &["-r", "-I", "-C", "-E"], &["-e"])?;
    match file_stem(path, &[".rb"]) {
        // They serve what lies in their folder.
        "puma" | "unicorn" | "rackup" | "rails" | "thin" | "sidekiq" | "bundle" | "falcon" => folder(started),
        stem => of_path(path, stem, started),
    }
}

fn dotnet(started: &Started<'_>) -> Option<String> {
    let path = operand(started.arguments, &["--additionalprobingpath", "--fx-version"], &[])?;
    path.ends_with(".dll").then(|| file_stem(path, &[".dll"]).to_owned())
}

fn erlang(started: &Started<'_>) -> Option<String> {
    let node = following(started.arguments, &["-sname", "-name"])?;
    node.split('@').next().map(str::to_owned)
}

fn script(started: &Started<'_>, with_value: &[&str], code: &[&str]) -> Option<String> {
    let path = operand(started.arguments, with_value, code)?;
    of_path(path, file_stem(path, &[".php", ".phar"]), started)
}

/// The first argument that is no option; nothing where code is given instead.
fn operand<'a>(arguments: &'a [String], with_value: &[&str], code: &[&str]) -> Option<&'a str> {
    let mut arguments = arguments.iter().skip(1).map(String::as_str);
    loop {
        let argument = arguments.next()?;
        if code.contains(&argument) {
            return None;
        }
        if with_value.contains(&argument) {
            arguments.next();
        } else if !argument.starts_with('-') {
            return Some(argument);
        }
    }
}

/// The value of an option: `-A x`, `--app x`, `--app=x`.
fn following<'a>(arguments: &'a [String], options: &[&str]) -> Option<&'a str> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if options.contains(&argument.as_str()) {
            return arguments.next().map(String::as_str);
        }
        let joined = options.iter().find_map(|option| argument.strip_prefix(option)?.strip_prefix('='));
        if joined.is_some() {
            return joined;
        }
    }
    None
}

/// A script is called after its file, or after its folder if that says more.
fn of_path(path: &str, stem: &str, started: &Started<'_>) -> Option<String> {
    if !is_usual(stem) {
        return Some(stem.to_owned());
    }
    let absolute = started.folder.map_or_else(|| PathBuf::from(path), |folder| folder.join(path));
    absolute.parent().and_then(telling).or_else(|| Some(stem.to_owned()))
}

/// The folder that the process works in.
fn folder(started: &Started<'_>) -> Option<String> {
    started.folder.and_then(telling)
}

/// The innermost folder that tells something.
fn telling(folder: &Path) -> Option<String> {
    let names = folder.iter().rev().take(PARENTS_MAX).filter_map(|part| part.to_str());
    let mut names = names.skip_while(|name| USUAL_FOLDERS.contains(name));
    names.next().filter(|name| is_name(name) && !TOP_FOLDERS.contains(name)).map(str::to_owned)
}

/// What the first file of a program is often called.
fn is_usual(stem: &str) -> bool {
    ["__main__", "main", "index", "server", "manage", "artisan", "wsgi", "asgi"].contains(&stem)
}

/// Folders within a project.
const USUAL_FOLDERS: &[&str] =
    &["app", "src", "dist", "build", "lib", "bin", "code", "public", "server", "current"];

/// Folders of the system: what lies there has no project.
const TOP_FOLDERS: &[&str] = &[
    "/",
    "etc",
    "home",
    "local",
    "mnt",
    "opt",
    "root",
    "run",
    "sbin",
    "share",
    "site-packages",
    "srv",
    "tmp",
    "usr",
    "var",
    "workspace",
    "www",
];

/// The name of a file without folder and without one of these endings.
fn file_stem<'a>(path: &'a str, endings: &[&str]) -> &'a str {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
    endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
