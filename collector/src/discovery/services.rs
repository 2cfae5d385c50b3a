//! From a process to its service: one resource for all processes that bear the same name and attributes.

use std::{collections::HashMap, sync::Arc};

use compact_str::CompactString;
use spantap_config::Overrides;
use spantap_ebpf_common::event::Tgid;
use spantap_protocols::{Attributes, Value, semconv::key};

use super::{
    files::Files,
    identity::{Facts, Identity, Languages},
    procfs,
};
use crate::telemetry::Service;

/// Processes remembered at once; beyond it the cache starts anew (reading /proc again costs 50 us a process).
const PROCESSES_MAX: usize = 32_768;

/// Knows the service of every process seen.
pub struct Services {
    by_process: HashMap<Tgid, Arc<Service>, foldhash::fast::RandomState>,
    /// By the service as the process has it, and the number of the rule that calls it otherwise.
    by_rule: HashMap<(u32, usize), Arc<Service>, foldhash::fast::RandomState>,
    by_identity: HashMap<CompactString, Arc<Service>, foldhash::fast::RandomState>,
    languages: Languages,
    files: Files,
    /// Processes of each service, by its number.
    processes: HashMap<u32, u32, foldhash::fast::RandomState>,
    /// Services whose last process has ended, since they were last asked for.
    ended: Vec<u32>,
    /// Attributes that every resource carries: the host, the agent.
    common: Attributes,
    next_id: u32,
}

impl Services {
    /// An empty one. `common` is added to every resource.
    #[must_use]
    pub fn new(common: Attributes) -> Self {
        Self {
            by_process: HashMap::default(),
            by_rule: HashMap::default(),
            by_identity: HashMap::default(),
            languages: Languages::default(),
            files: Files::default(),
            processes: HashMap::default(),
            ended: Vec::new(),
            common,
            next_id: 1,
        }
    }

    /// The service of a process, read from /proc at first sight. `comm` names it if it is already gone.
    pub fn of(&mut self, tgid: Tgid, comm: &[u8]) -> &Arc<Service> {
        if !self.by_process.contains_key(&tgid) {
            let service = self.identify(tgid, Facts::of(tgid, &self.files), comm);
            self.remember(tgid, service);
        }
        &self.by_process[&tgid]
    }

    /// Likewise, for a process that may be a forked child which is gone already: then it bears its parent's name, if
    /// both threads are called the same (a child that runs something else is called after that).
    pub fn of_child(&mut self, tgid: Tgid, parent: Tgid, comm: &[u8]) {
        if self.by_process.contains_key(&tgid) {
            return;
        }
        let facts = Facts::of(tgid, &self.files);
        if facts.executable.is_none()
            && parent != Tgid(0)
            && procfs::comm(parent).is_some_and(|name| name == procfs::comm_text(comm))
        {
            let service = Arc::clone(self.of(parent, comm));
            self.remember(tgid, service);
        } else if facts.executable.is_some() {
            let service = self.identify(tgid, facts, comm);
            self.remember(tgid, service);
        }
    }

    fn remember(&mut self, tgid: Tgid, service: Arc<Service>) {
        if self.by_process.len() >= PROCESSES_MAX {
            self.by_process.clear();
            self.processes.clear();
        }
        // Before the old one is taken out: a process that is given its own service again has not ended.
        *self.processes.entry(service.id).or_default() += 1;
        if let Some(before) = self.by_process.insert(tgid, service) {
            self.lost_a_process(before.id);
        }
    }

    fn lost_a_process(&mut self, service: u32) {
        let Some(left) = self.processes.get_mut(&service) else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.processes.remove(&service);
            self.ended.push(service);
            // What rules call it has ended with it, unless it is what others are called, too: these begin anew.
            self.ended.extend(
                self.by_rule.iter().filter(|((own, _), _)| *own == service).map(|(_, service)| service.id),
            );
        }
    }

    /// Services whose last process has ended since the last call. One may have got another process meanwhile.
    pub fn take_ended(&mut self) -> impl Iterator<Item = u32> {
        self.ended.drain(..)
    }

    /// Forgets services that nothing refers to any more, no process and nothing that is still to be exported; returns
    /// them. Every few seconds.
    pub fn sweep(&mut self) -> impl Iterator<Item = u32> + use<> {
        let processes = &self.processes;
        // Held here and in `by_identity` only, and the process that was called so is gone.
        self.by_rule
            .retain(|(own, _), service| processes.contains_key(own) || Arc::strong_count(service) > 2);
        let mut gone = Vec::new();
        self.by_identity.retain(|_, service| {
            let keep = Arc::strong_count(service) > 1;
            if !keep {
                gone.push(service.id);
            }
            keep
        });
        gone.into_iter()
    }

    /// A service by a name of its own: what a capture file calls its endpoints.
    pub fn named(&mut self, tgid: Tgid, name: &str) -> &Arc<Service> {
        if !self.by_process.contains_key(&tgid) {
            let mut attributes = Attributes::new();
            attributes.push(key::SERVICE_NAME, Value::Text(name.into()));
            let service = self.intern(name.into(), attributes);
            self.remember(tgid, service);
        }
        &self.by_process[&tgid]
    }

    /// The process says this of itself (see [`super::process_context`]): more exact than what is read from outside.
    pub fn describe(&mut self, tgid: Tgid, comm: &[u8], own: &Attributes) {
        let known = Arc::clone(self.of(tgid, comm));
        let mut attributes = known.attributes.clone();
        for (name, value) in own.iter() {
            attributes.set(name.clone(), value.clone());
        }
        let name = attributes.get(key::SERVICE_NAME).and_then(Value::as_str).unwrap_or(&known.name).into();
        let service = self.intern(name, attributes);
        self.remember(tgid, service);
    }

    /// The service of a process as rule number `rule` calls it.
    pub fn of_rule(&mut self, tgid: Tgid, comm: &[u8], rule: usize, called: &Overrides) -> &Arc<Service> {
        let own = Arc::clone(self.of(tgid, comm));
        let known = (own.id, rule);
        if !self.by_rule.contains_key(&known) {
            let mut attributes = own.attributes.clone();
            let mut set = |name, value: &Option<String>| {
                if let Some(value) = value {
                    attributes.set(name, Value::Text(value.into()));
                }
            };
            set(key::SERVICE_NAME, &called.service_name);
            set(key::SERVICE_NAMESPACE, &called.service_namespace);
            let name = called.service_name.as_ref().map_or_else(|| own.name.clone(), CompactString::from);
            let service = self.intern(name, attributes);
            self.by_rule.insert(known, service);
        }
        &self.by_rule[&known]
    }

    /// The process runs something else now, or its number may be given to another.
    pub fn forget(&mut self, tgid: Tgid) {
        if let Some(service) = self.by_process.remove(&tgid) {
            self.lost_a_process(service.id);
        }
    }

    fn identify(&mut self, tgid: Tgid, facts: Facts, comm: &[u8]) -> Arc<Service> {
        let Identity { name, attributes } = facts.identify(tgid, comm, &mut self.languages, &self.files);
        self.intern(name, attributes)
    }

    /// Two processes with the same attributes are one service: the workers of nginx, the replicas of an application.
    fn intern(&mut self, name: CompactString, mut attributes: Attributes) -> Arc<Service> {
        for (common, value) in self.common.iter() {
            if attributes.get(common.as_str()).is_none() {
                attributes.push(common.clone(), value.clone());
            }
        }
        let identity = compact_str::format_compact!("{attributes:?}");
        if let Some(known) = self.by_identity.get(&identity) {
            return Arc::clone(known);
        }
        let service = Arc::new(Service { id: self.next_id, name, attributes });
        self.next_id += 1;
        self.by_identity.insert(identity, Arc::clone(&service));
        service
    }
}

/// What every resource carries: the host, and that spantap saw it.
#[must_use]
pub fn common_attributes() -> Attributes {
    let mut attributes = Attributes::new();
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| CompactString::from(text.trim()));
    if let Some(name) = read("/proc/sys/kernel/hostname").filter(|name| !name.is_empty()) {
        attributes.push(key::HOST_NAME, Value::Text(name));
    }
    if let Some(id) = read("/etc/machine-id").filter(|id| !id.is_empty()) {
        attributes.push(key::HOST_ID, Value::Text(id));
    }
    attributes
        .push(key::HOST_ARCH, Value::Static(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }));
    attributes.push(key::OS_TYPE, Value::Static("linux"));
    attributes.push(key::TELEMETRY_SDK_NAME, Value::Static("spantap"));
    attributes.push(key::TELEMETRY_SDK_VERSION, Value::Static(env!("CARGO_PKG_VERSION")));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_after_its_executable() {
        let mut services = Services::new(common_attributes());
        let own = Tgid(std::process::id());
        let executable = std::env::current_exe().unwrap();
        let name = services.of(own, b"ignored\0").name.clone();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            assert_eq!(name, executable.file_name().unwrap().to_str().unwrap());
        }
        let id = services.of(own, b"").id;
        assert_eq!(services.of(own, b"").id, id);
    }

    #[test]
    fn a_process_that_is_gone_is_named_by_its_comm() {
        let mut services = Services::new(Attributes::new());
        assert_eq!(services.of(Tgid(u32::MAX), b"curl\0\0\0").name, "curl");
        let id = services.of(Tgid(u32::MAX), b"").id;
        assert_eq!(services.of(Tgid(u32::MAX - 1), b"curl\0").id, id, "one service for both");
    }

    #[test]
    fn what_a_process_says_of_itself_goes_before_what_is_seen_of_it() {
        let mut services = Services::new(Attributes::new());
        let (gone, other) = (Tgid(u32::MAX), Tgid(u32::MAX - 1));
        let mut own = Attributes::new();
        own.push(key::SERVICE_NAME, Value::Static("shop"));
        own.push(key::SERVICE_VERSION, Value::Static("2"));
        services.describe(gone, b"python3\0", &own);
        let service = services.of(gone, b"");
        assert_eq!(service.name, "shop");
        assert_eq!(service.attributes.get(key::SERVICE_VERSION), Some(&Value::Static("2")));
        assert_eq!(
            service.attributes.get(key::PROCESS_EXECUTABLE_NAME).and_then(Value::as_str),
            Some("python3")
        );
        // One that says nothing keeps its name; one that says the same is the same service.
        let id = service.id;
        services.describe(other, b"python3\0", &Attributes::new());
        assert_eq!(services.of(other, b"").name, "python3");
        services.describe(other, b"", &own);
        assert_eq!(services.of(other, b"").id, id);
    }

    #[test]
    fn a_rule_goes_before_all_that_is_known() {
        let mut services = Services::new(Attributes::new());
        let gone = Tgid(u32::MAX);
        let called =
            Overrides { service_name: Some("edge".into()), service_namespace: None, instrumented: None };
        let shop = Overrides { service_namespace: Some("shop".into()), ..Overrides::default() };
        let service = services.of_rule(gone, b"nginx\0", 0, &called).clone();
        assert_eq!(service.name, "edge");
        assert_eq!(service.attributes.get(key::SERVICE_NAME).and_then(Value::as_str), Some("edge"));
        assert_eq!(services.of_rule(gone, b"", 0, &called).id, service.id);
        let service = services.of_rule(gone, b"", 1, &shop).clone();
        assert_eq!(service.name, "nginx");
        assert_eq!(service.attributes.get(key::SERVICE_NAMESPACE).and_then(Value::as_str), Some("shop"));
        assert_eq!(services.of(gone, b"").name, "nginx", "where no rule fits nothing has changed");
    }

    #[test]
    fn a_service_ends_with_its_last_process_and_is_forgotten_when_nobody_holds_it() {
        let mut services = Services::new(Attributes::new());
        let [first, second] = [Tgid(u32::MAX), Tgid(u32::MAX - 1)];
        let held = Arc::clone(services.of(first, b"curl\0"));
        services.of(second, b"curl\0");
        let called = Overrides { service_name: Some("edge".into()), ..Overrides::default() };
        let edge = services.of_rule(first, b"", 0, &called).id;
        services.forget(first);
        services.forget(first);
        assert_eq!(services.take_ended().count(), 0, "the second is there");
        services.forget(second);
        assert_eq!(services.take_ended().collect::<Vec<_>>(), [held.id, edge]);
        assert_eq!(services.sweep().collect::<Vec<_>>(), [edge], "a series still holds the other");
        assert_eq!(services.of(first, b"curl\0").id, held.id, "the same again");
        services.forget(first);
        let id = held.id;
        drop(held);
        assert_eq!(services.sweep().collect::<Vec<_>>(), [id]);
        assert_ne!(services.of(first, b"curl\0").id, id);
    }

    #[test]
    fn a_process_that_is_given_its_own_service_again_has_not_ended() {
        let mut services = Services::new(Attributes::new());
        let gone = Tgid(u32::MAX);
        services.describe(gone, b"curl\0", &Attributes::new());
        services.describe(gone, b"curl\0", &Attributes::new());
        assert_eq!(services.take_ended().count(), 0);
        let mut own = Attributes::new();
        own.push(key::SERVICE_NAME, Value::Static("shop"));
        let before = services.of(gone, b"").id;
        services.describe(gone, b"", &own);
        assert_eq!(services.take_ended().collect::<Vec<_>>(), [before]);
    }
}
