//! A private PostgreSQL with `pg_stat_statements`: what it says itself that it has executed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    machine::Skip,
    nginx,
    program::{Program, folder, free_port},
};

/// A running server of its own, on TCP only. Its database `shop` has the tables of pgbench.
pub struct Postgres {
    /// Where it listens.
    pub port: u16,
    tls: bool,
    program: Program,
    #[expect(dead_code, reason = "it goes with the server")]
    folder: TempDir,
}

impl Postgres {
    /// Starts it as the user `postgres`, since it refuses to run as root.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn start() -> Result<Self, Skip> {
        Self::start_with(false, false)
    }

    /// The same, and it logs each statement with the client's port.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn start_logging() -> Result<Self, Skip> {
        Self::start_with(false, true)
    }

    /// The same with a certificate, and its clients insist on TLS. It logs each statement with the client's port.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn start_tls() -> Result<Self, Skip> {
        Self::start_with(true, true)
    }

    fn start_with(tls: bool, logs: bool) -> Result<Self, Skip> {
        let missing = || Skip::NoProgram("a PostgreSQL server with its user `postgres`".to_owned());
        let binaries = binaries().ok_or_else(missing)?;
        let (user, group) = user().ok_or_else(missing)?;
        let folder = folder();
        let (port, data) = (free_port(), folder.path().join("data"));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
        fs::create_dir(&data).expect("a fresh folder");
        chown(&data, Some(user), Some(group)).expect("we are root");
        let as_postgres = |binary: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
            command.arg(binaries.join(binary)).arg("-D").arg(&data).current_dir("/");
            command
        };
        let mut initdb = as_postgres("initdb");
        initdb.args(["--auth=trust", "--username=app", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        let _ = Program::run("initdb", &mut initdb).success("initdb");
        let mut server = as_postgres("postgres");
        if tls {
            nginx::certificate(&data);
            for name in ["cert.pem", "key.pem"] {
                let file = data.join(name);
                chown(&file, Some(user), Some(group)).expect("we are root");
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("we are root");
            }
            server.args(["-c", "ssl=on", "-c", "ssl_cert_file=cert.pem", "-c", "ssl_key_file=key.pem"]);
        }
        if logs {
            server.args(["-c", "log_statement=all", "-c", "log_line_prefix=%d %r "]);
        }
        for setting in [
            &format!("port={port}"),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_preload_libraries=pg_stat_statements",
            // What the server does by itself would be seen, too.
            "autovacuum=off",
            "fsync=off",
        ] {
            server.args(["-c", setting]);
        }
        let mut program = Program::start("postgres", &mut server);
        program.wait_ready("took connections", |program| {
            program.stderr().contains("database system is ready to accept connections")
        });
        let postgres = Self { port, tls, program, folder };
        postgres.sql("postgres", "CREATE DATABASE shop");
        // Its view shows all databases; what is asked of it stays out of the one that is counted.
        postgres.sql("postgres", "CREATE EXTENSION pg_stat_statements");
        let mut init = postgres.pgbench(&["-i", "-q"]);
        let _ = Program::run("pgbench", &mut init).success("pgbench -i");
        Ok(postgres)
    }

    /// A command of PostgreSQL's own clients, pointed at this server.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "app"]);
        command.env("PGSSLMODE", self.ssl_mode());
        command.env("PGGSSENCMODE", "disable").env_remove("PGOPTIONS");
        command
    }

    /// What `PGSSLMODE` must be for its clients.
    #[must_use]
    pub fn ssl_mode(&self) -> &'static str {
        if self.tls { "require" } else { "disable" }
    }

    /// pgbench with the database `shop`.
    #[must_use]
    pub fn pgbench(&self, arguments: &[&str]) -> Command {
        let mut command = self.client("pgbench");
        command.args(arguments).arg("shop");
        command
    }

    /// What a query prints, one row a line, columns with a tab between them.
    #[must_use]
    pub fn rows(&self, database: &str, sql: &str) -> String {
        let mut psql = self.client("psql");
        psql.args(["-X", "-A", "-t", "-q", "-F", "\t", "-d", database, "-c", sql]);
        Program::run("psql", &mut psql).success(sql).stdout
    }

    /// Runs SQL that must succeed.
    pub fn sql(&self, database: &str, sql: &str) {
        let _ = self.rows(database, sql);
    }

    /// Forgets what was executed so far.
    pub fn reset_statements(&self) {
        self.sql("postgres", "SELECT pg_stat_statements_reset()");
    }

    /// How often each verb was executed in `shop` since the reset, by the server's own count.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let sql = "SELECT upper(substring(query FROM '^[A-Za-z]+')), sum(calls) FROM pg_stat_statements \
                   JOIN pg_database d ON d.oid = dbid WHERE datname = 'shop' GROUP BY 1";
        let count = |line: &str| {
            let (verb, calls) = line.split_once('\t').expect("two columns");
            (verb.to_owned(), calls.parse().expect("a number"))
        };
        self.rows("postgres", sql).lines().map(count).collect()
    }

    /// How many statements came from each port since the last reset, by the log of a server with TLS.
    #[must_use]
    pub fn statements_by_port(&self, database: &str) -> BTreeMap<u16, usize> {
        let log = self.program.stderr();
        let since = log.rfind("pg_stat_statements_reset").map_or(0, |at| at);
        let mut counts = BTreeMap::new();
        for line in log[since..].lines() {
            // `shop 127.0.0.1(41234) LOG:  statement: SELECT 1`, or `execute NAME: SELECT 1`.
            let Some(rest) = line.strip_prefix(&format!("{database} 127.0.0.1(")) else { continue };
            let Some((port, said)) = rest.split_once(") LOG:  ") else { continue };
            if said.starts_with("statement: ") || said.starts_with("execute ") {
                *counts.entry(port.parse().expect("a port")).or_default() += 1;
            }
        }
        counts
    }

    /// Stops it as its administrator would.
    pub fn stop(mut self) {
        self.program.signal(libc::SIGINT);
        self.program.wait(Duration::from_secs(20));
    }
}

/// The folder of Debian's newest server.
fn binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
        .collect();
    versions.sort();
    versions.pop()
}

/// Numbers of the user `postgres` and its group.
fn user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().find(|line| line.starts_with("postgres:"))?.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
