//! Who is a process, as far as can be seen from outside? Its name, and what else its resource says.
//!
//! The name is the first of these that there is (a rule of the configuration goes before all of them, and so does what the
//! process publishes of itself, see [`super::process_context`]):
//!
//! 1. `OTEL_SERVICE_NAME`, or `service.name` in `OTEL_RESOURCE_ATTRIBUTES`, of its environment;
//! 2. the systemd unit whose main program it is, or runs as (`unit.rs`);
//! 3. what its interpreter executes (`script.rs`): `python3 app.py` is `app`;
//! 4. its executable, by the name that it was started by.

mod language;
mod script;
mod unit;

use std::path::{Path, PathBuf};

use compact_str::{CompactString, ToCompactString};
use spantap_ebpf_common::event::Tgid;
use spantap_protocols::{Attributes, Value, semconv::key};

pub(super) use self::language::Languages;
use self::script::Started;
use super::{files::Files, procfs};

/// The name of a service and what else its resource says.
pub(super) struct Identity {
    pub(super) name: CompactString,
    pub(super) attributes: Attributes,
}

/// What /proc says of a process.
pub(super) struct Facts {
    name: Option<String>,
    resource: Option<String>,
    /// The process that its systemd unit began with.
    main: Option<Tgid>,
    groups: Vec<String>,
    arguments: Vec<String>,
    folder: Option<PathBuf>,
    /// The name that it was started by, if its executable has several.
    called: Option<CompactString>,
    /// `None` if it is gone, or ends: then the others may be missing, too.
    pub(super) executable: Option<PathBuf>,
}

impl Facts {
    /// The executable last: while it can be read, what was read before it was whole.
    pub(super) fn of(tgid: Tgid, files: &Files) -> Self {
        let [name, resource, main] =
            procfs::environment(tgid, ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "SYSTEMD_EXEC_PID"]);
        Self {
            name,
            resource,
            main: main.and_then(|digits| digits.parse().ok().map(Tgid)),
            groups: procfs::control_groups(tgid),
            arguments: procfs::arguments(tgid),
            folder: procfs::folder(tgid),
            called: files.read(move || procfs::other_name(tgid)).flatten().map(CompactString::from),
            executable: procfs::executable(tgid),
        }
    }

    /// Who that is; `comm` names a process that is gone.
    pub(super) fn identify(
        self,
        tgid: Tgid,
        comm: &[u8],
        languages: &mut Languages,
        files: &Files,
    ) -> Identity {
        let path = self.executable.as_deref();
        let executable = path
            .and_then(|path| path.file_name()?.to_str())
            .map_or_else(|| procfs::comm_text(comm), str::to_owned);
        let language = path.and_then(|path| languages.of(tgid, path, files));
        let mut attributes = Attributes::new();
        for (name, value) in self.resource.as_deref().into_iter().flat_map(resource_attributes) {
            attributes.set(spantap_protocols::Key::Owned(name), Value::Text(value));
        }
        // https://opentelemetry.io/docs/specs/otel/resource/sdk: OTEL_SERVICE_NAME takes precedence over
        // service.name in OTEL_RESOURCE_ATTRIBUTES.
        let said = self.name.as_deref().filter(|name| !name.is_empty()).map(CompactString::from);
        let named = attributes.remove(key::SERVICE_NAME);
        let name = said
            .or_else(|| named.as_ref().and_then(Value::as_str).map(CompactString::from))
            .or_else(|| self.unit(tgid).map(CompactString::from))
            .or_else(|| self.script(tgid, language?.name, files).map(CompactString::from))
            .or_else(|| self.called.clone())
            .unwrap_or_else(|| executable.to_compact_string());
        attributes.set(key::SERVICE_NAME, Value::Text(name.clone()));
        attributes.set(key::PROCESS_EXECUTABLE_NAME, Value::Text(executable.into()));
        if let Some(path) = path.and_then(Path::to_str) {
            attributes.set(key::PROCESS_EXECUTABLE_PATH, Value::Text(path.into()));
        }
        if let Some(language) = language {
            attributes.set(key::TELEMETRY_SDK_LANGUAGE, Value::Static(language.name));
            if let Some(runtime) = language.runtime {
                attributes.set(key::PROCESS_RUNTIME_NAME, Value::Static(runtime));
            }
        }
        if let Some(id) = self.groups.iter().find_map(|group| procfs::container_id(group)) {
            attributes.set(key::CONTAINER_ID, Value::Text(id.into()));
        }
        Identity { name, attributes }
    }

    /// The unit, for its main process and those that run the same program: not for what a job of cron starts.
    fn unit(&self, tgid: Tgid) -> Option<&str> {
        let main = self.main?;
        let is_main = main == tgid
            || self.executable.is_some() && procfs::executable(main).as_deref() == self.executable.as_deref();
        self.groups.iter().filter(|_| is_main).find_map(|group| unit::of(group))
    }

    fn script(&self, tgid: Tgid, language: &str, files: &Files) -> Option<String> {
        let read = |path: &Path| {
            let path = path.to_owned();
            files.read(move || procfs::read_inside(tgid, &path)).flatten()
        };
        let folder = self.folder.as_deref();
        script::name(language, &Started { arguments: &self.arguments, folder, read: &read })
    }
}

/// `key=value,key=value` with percent-encoded values; what is malformed is left out.
/// <https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable>
fn resource_attributes(text: &str) -> impl Iterator<Item = (CompactString, CompactString)> + '_ {
    const ATTRIBUTES_MAX: usize = 64;
    text.split(',').take(ATTRIBUTES_MAX).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8_lossy();
        (!name.is_empty()).then(|| (name.into(), value.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_attributes_of_the_environment() {
        let parsed: Vec<_> = resource_attributes("a=1, b = x%20y ,bad,=no,c=%zz%4").collect();
        assert_eq!(
            parsed,
            [("a".into(), "1".into()), ("b".into(), "x y".into()), ("c".into(), "%zz%4".into())]
        );
    }
}
