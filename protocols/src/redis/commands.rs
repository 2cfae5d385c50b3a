//! What spantap knows of each command of Redis: which of its arguments are keys (all others are values, and never
//! shown), and which commands do something to the conversation itself.
//!
//! Names and key positions are those of `COMMAND` of Redis 7.0, and of later versions by
//! <https://redis.io/docs/latest/commands/>. A command that is not here is `_OTHER`, unless it has a dot in its name, as
//! those of modules do: what a client sends by mistake in the place of a command may be a secret.

/// Which arguments are shown. They are counted from 1, the command is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// None.
    None,
    /// The first.
    First,
    /// The first and the second.
    Two,
    /// All.
    All,
    /// All but the last.
    AllButLast,
    /// 1, 3, 5 and so on: keys with values between them.
    Odd,
    /// 1, then 2, 4, 6 and so on: a hash and its fields, with values between them.
    Pairs,
    /// The second, of commands with a subcommand.
    Second,
    /// All from the second on.
    FromSecond,
}

impl Keys {
    /// Whether the argument `index` of a command of `count` words is shown.
    pub(super) fn shows(self, index: u32, count: u32) -> bool {
        match self {
            Self::None => false,
            Self::First => index == 1,
            Self::Two => index == 1 || index == 2,
            Self::All => true,
            Self::AllButLast => index + 1 < count,
            Self::Odd => index % 2 == 1,
            Self::Pairs => index == 1 || index.is_multiple_of(2),
            Self::Second => index == 2,
            Self::FromSecond => index >= 2,
        }
    }
}

/// What a command does to the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: one request, one reply.
    Plain,
    /// Its first argument is a part of its name, if it is one of these.
    Container(&'static [&'static str]),
    /// `CLIENT`, a container too; `CLIENT REPLY` decides whether there are replies.
    Client(&'static [&'static str]),
    Ping,
    Multi,
    Exec,
    Discard,
    Select,
    Subscribe(Channels),
    Unsubscribe(Channels),
    Monitor,
    /// `SYNC` and `PSYNC`: what follows the reply is a replication stream.
    Sync,
    Replconf,
    Reset,
    Quit,
}

/// What can be subscribed to; each is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    Plain,
    Pattern,
    Shard,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) keys: Keys,
    pub(super) kind: Kind,
}

impl Command {
    /// Whether it may be sent by a connection of RESP2 that is subscribed to something.
    pub(super) fn is_of_subscribers(&self) -> bool {
        matches!(self.kind, Kind::Ping | Kind::Subscribe(_) | Kind::Unsubscribe(_) | Kind::Quit | Kind::Reset)
    }

    /// Its subcommands.
    pub(super) fn subcommands(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Container(names) | Kind::Client(names) => names,
            _ => &[],
        }
    }
}

/// Looks a command up, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let wanted = Packed::of(name)?;
    let at = PACKED.binary_search(&wanted).ok()?;
    COMMANDS.get(at)
}

/// A command that is in no list but may be a module's: `FT.SEARCH`.
pub(super) fn is_of_module(name: &[u8]) -> bool {
    let dots = name.iter().filter(|byte| **byte == b'.').count();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    dots == 1
        && name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.last() != Some(&b'.')
        && name.len() <= NAME_BYTES
        && name.iter().all(plain)
}

/// Longer than every name here.
const NAME_BYTES: usize = 24;

/// A name in upper case, so that three comparisons of words order two of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Packed([u64; NAME_BYTES / 8]);

impl Packed {
    const fn of(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.len() > NAME_BYTES {
            return None;
        }
        let mut words = [0; NAME_BYTES / 8];
        let mut rest = name;
        let mut at = 0;
        while let [byte, after @ ..] = rest {
            words[at / 8] |= (byte.to_ascii_uppercase() as u64) << (56 - 8 * (at % 8));
            at += 1;
            rest = after;
        }
        Some(Self(words))
    }
}

static PACKED: [Packed; COMMANDS.len()] = {
    let mut packed = [Packed([0; NAME_BYTES / 8]); COMMANDS.len()];
    let mut at = 0;
    while at < COMMANDS.len() {
        if let Some(name) = Packed::of(COMMANDS[at].name.as_bytes()) {
            packed[at] = name;
        }
        at += 1;
    }
    packed
};

const fn plain(name: &'static str, keys: Keys) -> Command {
    Command { name, keys, kind: Kind::Plain }
}

const fn special(name: &'static str, kind: Kind) -> Command {
    Command { name, keys: Keys::None, kind }
}

const fn container(name: &'static str, keys: Keys, names: &'static [&'static str]) -> Command {
    Command { name, keys, kind: Kind::Container(names) }
}

const fn channels(name: &'static str, kind: Kind) -> Command {
    Command { name, keys: Keys::All, kind }
}

/// Every command, in the order of the alphabet.
static COMMANDS: [Command; ROWS.len()] = ROWS;

#[rustfmt::skip]
const ROWS: [Command; 272] = [
    container("ACL", Keys::None, &[
        "CAT", "DELUSER", "DRYRUN", "GENPASS", "GETUSER", "HELP", "LIST", "LOAD", "LOG", "SAVE", "SETUSER",
        "USERS", "WHOAMI"
    ]),
    plain("APPEND", Keys::First), plain("ASKING", Keys::None), plain("AUTH", Keys::None),
    plain("BGREWRITEAOF", Keys::None), plain("BGSAVE", Keys::None), plain("BITCOUNT", Keys::First),
    plain("BITFIELD", Keys::First), plain("BITFIELD_RO", Keys::First), plain("BITOP", Keys::FromSecond),
    plain("BITPOS", Keys::First), plain("BLMOVE", Keys::Two), plain("BLMPOP", Keys::None),
    plain("BLPOP", Keys::AllButLast), plain("BRPOP", Keys::AllButLast), plain("BRPOPLPUSH", Keys::Two),
    plain("BZMPOP", Keys::None), plain("BZPOPMAX", Keys::AllButLast), plain("BZPOPMIN", Keys::AllButLast),
    special("CLIENT", Kind::Client(&[
        "CACHING", "GETNAME", "GETREDIR", "HELP", "ID", "INFO", "KILL", "LIST", "MAINT_NOTIFICATIONS", "NO-EVICT", "NO-TOUCH",
        "PAUSE", "REPLY", "SETINFO", "SETNAME", "TRACKING", "TRACKINGINFO", "UNBLOCK", "UNPAUSE"
    ])),
    container("CLUSTER", Keys::None, &[
        "ADDSLOTS", "ADDSLOTSRANGE", "BUMPEPOCH", "COUNT-FAILURE-REPORTS", "COUNTKEYSINSLOT", "DELSLOTS",
        "DELSLOTSRANGE", "FAILOVER", "FLUSHSLOTS", "FORGET", "GETKEYSINSLOT", "HELP", "INFO", "KEYSLOT",
        "LINKS", "MEET", "MIGRATION", "MYID", "MYSHARDID", "NODES", "REPLICAS", "REPLICATE", "RESET",
        "SAVECONFIG", "SET-CONFIG-EPOCH", "SETSLOT", "SHARDS", "SLAVES", "SLOT-STATS", "SLOTS"
    ]),
    container("COMMAND", Keys::None, &[
        "COUNT", "DOCS", "GETKEYS", "GETKEYSANDFLAGS", "HELP", "INFO", "LIST"
    ]),
    container("CONFIG", Keys::None, &["GET", "HELP", "RESETSTAT", "REWRITE", "SET"]),
    plain("COPY", Keys::Two), plain("DBSIZE", Keys::None), plain("DEBUG", Keys::None),
    plain("DECR", Keys::First), plain("DECRBY", Keys::First), plain("DEL", Keys::All),
    plain("DELEX", Keys::First), plain("DIGEST", Keys::First), special("DISCARD", Kind::Discard),
    plain("DUMP", Keys::First), plain("ECHO", Keys::None), plain("EVAL", Keys::None),
    plain("EVALSHA", Keys::None), plain("EVALSHA_RO", Keys::None), plain("EVAL_RO", Keys::None),
    special("EXEC", Kind::Exec), plain("EXISTS", Keys::All), plain("EXPIRE", Keys::First),
    plain("EXPIREAT", Keys::First), plain("EXPIRETIME", Keys::First), plain("FAILOVER", Keys::None),
    plain("FCALL", Keys::None), plain("FCALL_RO", Keys::None), plain("FLUSHALL", Keys::None),
    plain("FLUSHDB", Keys::None),
    container("FUNCTION", Keys::None, &[
        "DELETE", "DUMP", "FLUSH", "HELP", "KILL", "LIST", "LOAD", "RESTORE", "STATS"
    ]),
    plain("GEOADD", Keys::First), plain("GEODIST", Keys::First), plain("GEOHASH", Keys::First),
    plain("GEOPOS", Keys::First), plain("GEORADIUS", Keys::First), plain("GEORADIUSBYMEMBER", Keys::First),
    plain("GEORADIUSBYMEMBER_RO", Keys::First), plain("GEORADIUS_RO", Keys::First),
    plain("GEOSEARCH", Keys::First), plain("GEOSEARCHSTORE", Keys::Two), plain("GET", Keys::First),
    plain("GETBIT", Keys::First), plain("GETDEL", Keys::First), plain("GETEX", Keys::First),
    plain("GETRANGE", Keys::First), plain("GETSET", Keys::First), plain("HDEL", Keys::All),
    plain("HELLO", Keys::None), plain("HEXISTS", Keys::All), plain("HEXPIRE", Keys::First),
    plain("HEXPIREAT", Keys::First), plain("HEXPIRETIME", Keys::First), plain("HGET", Keys::All),
    plain("HGETALL", Keys::First), plain("HGETDEL", Keys::First), plain("HGETEX", Keys::First),
    plain("HINCRBY", Keys::Pairs), plain("HINCRBYFLOAT", Keys::Pairs), plain("HKEYS", Keys::First),
    plain("HLEN", Keys::First), plain("HMGET", Keys::All), plain("HMSET", Keys::Pairs),
    plain("HPERSIST", Keys::First), plain("HPEXPIRE", Keys::First), plain("HPEXPIREAT", Keys::First),
    plain("HPEXPIRETIME", Keys::First), plain("HPTTL", Keys::First), plain("HRANDFIELD", Keys::First),
    plain("HSCAN", Keys::First), plain("HSET", Keys::Pairs), plain("HSETEX", Keys::First),
    plain("HSETNX", Keys::Pairs), plain("HSTRLEN", Keys::All), plain("HTTL", Keys::First),
    plain("HVALS", Keys::First), plain("INCR", Keys::First), plain("INCRBY", Keys::First),
    plain("INCRBYFLOAT", Keys::First), plain("INFO", Keys::None), plain("KEYS", Keys::None),
    plain("LASTSAVE", Keys::None),
    container("LATENCY", Keys::None, &[
        "DOCTOR", "GRAPH", "HELP", "HISTOGRAM", "HISTORY", "LATEST", "RESET"
    ]),
    plain("LCS", Keys::Two), plain("LINDEX", Keys::First), plain("LINSERT", Keys::First),
    plain("LLEN", Keys::First), plain("LMOVE", Keys::Two), plain("LMPOP", Keys::None),
    plain("LOLWUT", Keys::None), plain("LPOP", Keys::First), plain("LPOS", Keys::First),
    plain("LPUSH", Keys::First), plain("LPUSHX", Keys::First), plain("LRANGE", Keys::First),
    plain("LREM", Keys::First), plain("LSET", Keys::First), plain("LTRIM", Keys::First),
    container("MEMORY", Keys::Second, &["DOCTOR", "HELP", "MALLOC-STATS", "PURGE", "STATS", "USAGE"]),
    plain("MGET", Keys::All), plain("MIGRATE", Keys::None),
    container("MODULE", Keys::None, &["HELP", "LIST", "LOAD", "LOADEX", "UNLOAD"]),
    special("MONITOR", Kind::Monitor), plain("MOVE", Keys::First), plain("MSET", Keys::Odd),
    plain("MSETEX", Keys::None), plain("MSETNX", Keys::Odd), special("MULTI", Kind::Multi),
    container("OBJECT", Keys::Second, &["ENCODING", "FREQ", "HELP", "IDLETIME", "REFCOUNT"]),
    plain("PERSIST", Keys::First), plain("PEXPIRE", Keys::First), plain("PEXPIREAT", Keys::First),
    plain("PEXPIRETIME", Keys::First), plain("PFADD", Keys::First), plain("PFCOUNT", Keys::All),
    plain("PFDEBUG", Keys::None), plain("PFMERGE", Keys::All), plain("PFSELFTEST", Keys::None),
    special("PING", Kind::Ping), plain("PSETEX", Keys::First),
    channels("PSUBSCRIBE", Kind::Subscribe(Channels::Pattern)), special("PSYNC", Kind::Sync),
    plain("PTTL", Keys::First), plain("PUBLISH", Keys::First),
    container("PUBSUB", Keys::None, &[
        "CHANNELS", "HELP", "NUMPAT", "NUMSUB", "SHARDCHANNELS", "SHARDNUMSUB"
    ]),
    channels("PUNSUBSCRIBE", Kind::Unsubscribe(Channels::Pattern)), special("QUIT", Kind::Quit),
    plain("RANDOMKEY", Keys::None), plain("READONLY", Keys::None), plain("READWRITE", Keys::None),
    plain("RENAME", Keys::Two), plain("RENAMENX", Keys::Two), special("REPLCONF", Kind::Replconf),
    plain("REPLICAOF", Keys::None), special("RESET", Kind::Reset), plain("RESTORE", Keys::First),
    plain("RESTORE-ASKING", Keys::First), plain("ROLE", Keys::None), plain("RPOP", Keys::First),
    plain("RPOPLPUSH", Keys::Two), plain("RPUSH", Keys::First), plain("RPUSHX", Keys::First),
    plain("SADD", Keys::First), plain("SAVE", Keys::None), plain("SCAN", Keys::None),
    plain("SCARD", Keys::First),
    container("SCRIPT", Keys::None, &["DEBUG", "EXISTS", "FLUSH", "HELP", "KILL", "LOAD"]),
    plain("SDIFF", Keys::All), plain("SDIFFSTORE", Keys::All), special("SELECT", Kind::Select),
    container("SENTINEL", Keys::None, &[
        "CKQUORUM", "CONFIG", "DEBUG", "FAILOVER", "FLUSHCONFIG", "GET-MASTER-ADDR-BY-NAME", "HELP", "INFO-
        CACHE", "IS-MASTER-DOWN-BY-ADDR", "MASTER", "MASTERS", "MONITOR", "MYID", "PENDING-SCRIPTS",
        "REMOVE", "REPLICAS", "RESET", "SENTINELS", "SET", "SIMULATE-FAILURE", "SLAVES"
    ]),
    plain("SET", Keys::First), plain("SETBIT", Keys::First), plain("SETEX", Keys::First),
    plain("SETNX", Keys::First), plain("SETRANGE", Keys::First), plain("SHUTDOWN", Keys::None),
    plain("SINTER", Keys::All), plain("SINTERCARD", Keys::None), plain("SINTERSTORE", Keys::All),
    plain("SISMEMBER", Keys::First), plain("SLAVEOF", Keys::None),
    container("SLOWLOG", Keys::None, &["GET", "HELP", "LEN", "RESET"]),
    plain("SMEMBERS", Keys::First), plain("SMISMEMBER", Keys::First), plain("SMOVE", Keys::Two),
    plain("SORT", Keys::First), plain("SORT_RO", Keys::First), plain("SPOP", Keys::First),
    plain("SPUBLISH", Keys::First), plain("SRANDMEMBER", Keys::First), plain("SREM", Keys::First),
    plain("SSCAN", Keys::First), channels("SSUBSCRIBE", Kind::Subscribe(Channels::Shard)),
    plain("STRLEN", Keys::First), channels("SUBSCRIBE", Kind::Subscribe(Channels::Plain)),
    plain("SUBSTR", Keys::First), plain("SUNION", Keys::All), plain("SUNIONSTORE", Keys::All),
    channels("SUNSUBSCRIBE", Kind::Unsubscribe(Channels::Shard)), plain("SWAPDB", Keys::None),
    special("SYNC", Kind::Sync), plain("TIME", Keys::None), plain("TOUCH", Keys::All),
    plain("TTL", Keys::First), plain("TYPE", Keys::First), plain("UNLINK", Keys::All),
    channels("UNSUBSCRIBE", Kind::Unsubscribe(Channels::Plain)), plain("UNWATCH", Keys::None),
    plain("VADD", Keys::First), plain("VCARD", Keys::First), plain("VDIM", Keys::First),
    plain("VEMB", Keys::First), plain("VGETATTR", Keys::First), plain("VINFO", Keys::First),
    plain("VISMEMBER", Keys::First), plain("VLINKS", Keys::First), plain("VRANDMEMBER", Keys::First),
    plain("VRANGE", Keys::First), plain("VREM", Keys::First), plain("VSETATTR", Keys::First),
    plain("VSIM", Keys::First), plain("WAIT", Keys::None), plain("WAITAOF", Keys::None),
    plain("WATCH", Keys::All), plain("XACK", Keys::First), plain("XACKDEL", Keys::First),
    plain("XADD", Keys::First), plain("XAUTOCLAIM", Keys::First), plain("XCLAIM", Keys::First),
    plain("XDEL", Keys::First), plain("XDELEX", Keys::First),
    container("XGROUP", Keys::Second, &[
        "CREATE", "CREATECONSUMER", "DELCONSUMER", "DESTROY", "HELP", "SETID"
    ]),
    container("XINFO", Keys::Second, &["CONSUMERS", "GROUPS", "HELP", "STREAM"]),
    plain("XLEN", Keys::First), plain("XPENDING", Keys::First), plain("XRANGE", Keys::First),
    plain("XREAD", Keys::None), plain("XREADGROUP", Keys::None), plain("XREVRANGE", Keys::First),
    plain("XSETID", Keys::First), plain("XTRIM", Keys::First), plain("ZADD", Keys::First),
    plain("ZCARD", Keys::First), plain("ZCOUNT", Keys::First), plain("ZDIFF", Keys::None),
    plain("ZDIFFSTORE", Keys::First), plain("ZINCRBY", Keys::First), plain("ZINTER", Keys::None),
    plain("ZINTERCARD", Keys::None), plain("ZINTERSTORE", Keys::First), plain("ZLEXCOUNT", Keys::First),
    plain("ZMPOP", Keys::None), plain("ZMSCORE", Keys::First), plain("ZPOPMAX", Keys::First),
    plain("ZPOPMIN", Keys::First), plain("ZRANDMEMBER", Keys::First), plain("ZRANGE", Keys::First),
    plain("ZRANGEBYLEX", Keys::First), plain("ZRANGEBYSCORE", Keys::First), plain("ZRANGESTORE", Keys::Two),
    plain("ZRANK", Keys::First), plain("ZREM", Keys::First), plain("ZREMRANGEBYLEX", Keys::First),
    plain("ZREMRANGEBYRANK", Keys::First), plain("ZREMRANGEBYSCORE", Keys::First),
    plain("ZREVRANGE", Keys::First), plain("ZREVRANGEBYLEX", Keys::First),
    plain("ZREVRANGEBYSCORE", Keys::First), plain("ZREVRANK", Keys::First), plain("ZSCAN", Keys::First),
    plain("ZSCORE", Keys::First), plain("ZUNION", Keys::None), plain("ZUNIONSTORE", Keys::First),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_every_name_is_found() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name), "in the order of the alphabet, none twice");
        for command in &COMMANDS {
            assert_eq!(find(command.name.as_bytes()), Some(command));
            assert_eq!(find(command.name.to_ascii_lowercase().as_bytes()), Some(command));
            assert!(command.subcommands().iter().all(|name| name.len() <= NAME_BYTES));
        }
        for other in [&b""[..], b"GE", b"GETT", b"A NAME THAT IS MUCH LONGER THAN ANY", b"\0\0\0"] {
            assert_eq!(find(other), None);
        }
    }

    #[test]
    fn names_of_modules_have_one_dot() {
        for name in [&b"FT.SEARCH"[..], b"json.get", b"TS.RANGE"] {
            assert!(is_of_module(name));
        }
        for name in [&b"hunter2"[..], b"1.2", b"a.b.c", b"GET.", b".GET", b"pass word.x", b"PASSWORD"] {
            assert!(!is_of_module(name));
        }
    }
}
