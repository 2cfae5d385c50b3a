//! The systemd unit that a control group belongs to.

/// The name of the service in the path of a control group: `/system.slice/shop.service` is `shop`, an instance of a
/// template is called after the template (`/system.slice/system-worker.slice/worker@3.service` is `worker`). Nothing for
/// the manager's own units, sessions of people, and what starts programs of others.
pub(super) fn of(group: &str) -> Option<&str> {
    let unit = group.rsplit('/').find_map(|part| part.strip_suffix(".service"))?;
    let name = unit.split('@').next().unwrap_or(unit);
    let starts_others = STARTERS.contains(&name) || name.starts_with("systemd-") || name.starts_with("run-");
    (!name.is_empty() && !starts_others && !name.contains('\\')).then_some(name)
}

/// Units whose processes are many different programs.
const STARTERS: &[&str] = &[
    "actions-runner",
    "atd",
    "buildkite-agent",
    "containerd",
    "cri-o",
    "cron",
    "crond",
    "docker",
    "getty",
    "gitlab-runner",
    "k3s",
    "kubelet",
    "libvirtd",
    "lxc",
    "podman",
    "runner",
    "screen",
    "serial-getty",
    "snapd",
    "ssh",
    "sshd",
    "supervisor",
    "supervisord",
    "tmux",
    "user",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_by_their_groups() {
        for (group, expected) in [
            ("/system.slice/shop.service", Some("shop")),
            ("/system.slice/system-worker.slice/worker@3.service", Some("worker")),
            ("/system.slice/postgresql@15-main.service", Some("postgresql")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service", Some("shop")),
            ("/system.slice/shop.service/workers", Some("shop")),
            ("/system.slice/cron.service", None),
            ("/user.slice/user-1000.slice/session-3.scope", None),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", None),
            ("/system.slice/run-u12.service", None),
            ("/system.slice/systemd-journald.service", None),
            ("/system.slice/a\\x2db.service", None),
            ("/docker/0123", None),
            ("/", None),
        ] {
            assert_eq!(of(group), expected, "{group}");
        }
    }
}
