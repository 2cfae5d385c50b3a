//! What the server still owes, in the order in which it will come.
//!
//! One byte for each message that will be answered, and a [`Pending`] for those of them that are exchanges. The server
//! answers in order, and each cycle of a conversation ends in ReadyForQuery.

use std::{collections::VecDeque, sync::Arc};

use compact_str::CompactString;

use crate::{
    limits,
    protocol::BootNanos,
    sql::{Statement, Statements},
};

/// What is owed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// One byte: whether the connection will be encrypted.
    Encryption,
    /// Authentication, parameters. Has a pending.
    Startup,
    /// The completions of a simple query's statements. Has a pending.
    Query,
    /// ParseComplete; of a named statement, which waits in `parsed`.
    Parse { named: bool },
    /// BindComplete.
    Bind,
    /// ParameterDescription, then as for a portal.
    DescribeStatement,
    /// RowDescription or NoData.
    Describe,
    /// Rows and their completion. Has a pending.
    Execute,
    /// Nothing: here ends a group of messages that executes nothing. Has a pending, in case one of them fails.
    Prepared,
    /// CloseComplete.
    Close,
    /// FunctionCallResponse. Has a pending.
    Function,
    /// Nothing more: its error has come.
    Nothing,
    /// ReadyForQuery.
    Ready,
    /// Messages that were not seen: everything until a turn opens.
    Unknown,
}

impl Owed {
    fn has_pending(self) -> bool {
        matches!(self, Self::Startup | Self::Query | Self::Execute | Self::Prepared | Self::Function)
    }
}

/// A request on its way to an exchange.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) start: BootNanos,
    pub(super) request_end: BootNanos,
    pub(super) request_bytes: u64,
    pub(super) what: What,
    pub(super) copy: CopySent,
}

/// Rows that a client may have sent before the server has asked for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CopySent {
    /// Not to their end.
    #[default]
    Open,
    /// CopyDone or CopyFail, and no Sync before it.
    Ended,
    /// Likewise, and a Sync before it, which the server ignores.
    EndedBehindSync,
}

#[derive(Debug)]
pub(super) enum What {
    Startup,
    Query(Box<Query>),
    Execute(Text),
    Function,
}

/// A simple query.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) statements: Statements,
    /// How many of them are over.
    pub(super) done: usize,
    /// Its text was not seen to its end: it may hold more of them.
    pub(super) more: bool,
}

/// The statement that a portal executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Known(Arc<Statement>),
    /// It was prepared under this name when nobody looked; empty for the one without a name.
    Unknown(CompactString),
}

impl Text {
    /// It is not `statement`, which could not be prepared, but what had its name before.
    pub(super) fn correct(&mut self, statement: &Arc<Statement>, before: &Arc<Statement>) {
        if matches!(self, Self::Known(known) if Arc::ptr_eq(known, statement)) {
            *self = Self::Known(Arc::clone(before));
        }
    }
}

/// A named statement whose Parse waits.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) name: CompactString,
    pub(super) statement: Arc<Statement>,
    /// What had the name before it, and has it again if the Parse fails.
    pub(super) before: Option<Arc<Statement>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    owed: VecDeque<Owed>,
    pending: VecDeque<Pending>,
    parsed: VecDeque<Parsed>,
    cycles: usize,
    unknown: bool,
}

impl Queue {
    pub(super) fn front(&self) -> Option<Owed> {
        self.owed.front().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// No more may be taken before something is answered.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= limits::PIPELINE_MAX || self.owed.len() >= 8 * limits::PIPELINE_MAX
    }

    /// Cycles that were asked for whole and are not over.
    pub(super) fn cycles(&self) -> usize {
        self.cycles
    }

    /// Messages that were not seen wait somewhere.
    pub(super) fn has_unknown(&self) -> bool {
        self.unknown
    }

    /// Something waits that is only prepared.
    pub(super) fn has_prepared(&self) -> bool {
        self.owed.contains(&Owed::Prepared)
    }

    /// Exchanges that are not finished.
    pub(super) fn in_flight(&self) -> usize {
        self.exchanges()
    }

    pub(super) fn push(&mut self, owed: Owed) {
        self.cycles += usize::from(owed == Owed::Ready);
        self.unknown |= owed == Owed::Unknown;
        self.owed.push_back(owed);
    }

    pub(super) fn push_parse(&mut self, parsed: Parsed) {
        let named = !parsed.name.is_empty();
        self.owed.push_back(Owed::Parse { named });
        if named {
            self.parsed.push_back(parsed);
        }
    }

    pub(super) fn push_pending(&mut self, owed: Owed, pending: Pending) {
        debug_assert!(owed.has_pending());
        self.owed.push_back(owed);
        self.pending.push_back(pending);
    }

    /// Takes the front; a pending that it has goes with it, as does what a Parse has named.
    pub(super) fn pop(&mut self) -> (Option<Owed>, Option<Pending>, Option<Parsed>) {
        let owed = self.owed.pop_front();
        let pending = owed.filter(|owed| owed.has_pending()).and_then(|_| self.pending.pop_front());
        let parsed =
            owed.filter(|owed| *owed == Owed::Parse { named: true }).and_then(|_| self.parsed.pop_front());
        self.cycles -= usize::from(owed == Some(Owed::Ready));
        self.unknown &= owed != Some(Owed::Unknown);
        if self.owed.is_empty() {
            self.shrink();
        }
        (owed, pending, parsed)
    }

    /// An idle connection keeps next to nothing.
    fn shrink(&mut self) {
        if self.pending.capacity() > 4 {
            self.pending.shrink_to(4);
        }
        if self.owed.capacity() > 64 {
            self.owed.shrink_to(64);
        }
        if self.parsed.capacity() > 0 {
            self.parsed = VecDeque::new();
        }
    }

    /// After the first message of a pipeline has failed: the exchange that it belongs to, if that is in the front's cycle.
    pub(super) fn take_failed(&mut self) -> Option<Pending> {
        let ends = |owed: &Owed| matches!(owed, Owed::Ready | Owed::Unknown);
        let at = self.owed.iter().position(|owed| owed.has_pending() || ends(owed))?;
        let owed = self.owed.get_mut(at).filter(|owed| owed.has_pending())?;
        *owed = Owed::Nothing;
        self.pending.pop_front()
    }

    /// The Parse has failed. Cycles that were sent before the client could know execute what had the name before.
    pub(super) fn correct(&mut self, Parsed { statement, before, .. }: &Parsed) {
        let Some(before) = before else { return };
        let mut pending = self.pending.iter_mut();
        let mut is_later = false;
        for owed in &self.owed {
            is_later |= *owed == Owed::Ready;
            if !owed.has_pending() {
                continue;
            }
            let Some(pending) = pending.next() else { return };
            if is_later && let What::Execute(text) = &mut pending.what {
                text.correct(statement, before);
            }
        }
    }

    /// What is owed at the front has been answered in part.
    pub(super) fn replace_front(&mut self, owed: Owed) {
        if let Some(front) = self.owed.front_mut() {
            *front = owed;
        }
    }

    /// The oldest and the newest exchange.
    pub(super) fn first(&mut self) -> Option<&mut Pending> {
        self.pending.front_mut()
    }

    pub(super) fn last(&mut self) -> Option<&mut Pending> {
        self.pending.back_mut()
    }

    /// CopyDone or CopyFail was sent for the newest exchange.
    pub(super) fn end_copy(&mut self) {
        let sent = match self.owed.back() {
            Some(Owed::Ready) => CopySent::EndedBehindSync,
            _ => CopySent::Ended,
        };
        if let Some(newest) = self.pending.back_mut() {
            newest.copy = sent;
        }
    }

    /// The Sync behind the front is ignored by a server that copies.
    pub(super) fn remove_ready_behind_front(&mut self) {
        if self.owed.get(1) == Some(&Owed::Ready) {
            self.owed.remove(1);
            self.cycles -= 1;
        }
    }

    /// Pending ones that are exchanges even if nothing fails.
    fn exchanges(&self) -> usize {
        let counts = |owed: &&Owed| matches!(owed, Owed::Query | Owed::Execute | Owed::Function);
        self.owed.iter().filter(counts).count()
    }

    /// Keeps only the end of the last cycle, and its exchange if that is the only one, at `keep`. Returns how many
    /// exchanges are given up.
    pub(super) fn blur(&mut self, keep: bool) -> usize {
        let before = self.exchanges();
        let keep = keep && self.pending.len() == 1;
        self.owed.clear();
        self.parsed.clear();
        self.owed.extend([Owed::Execute, Owed::Ready].get(usize::from(!keep)..).unwrap_or_default());
        if !keep {
            self.pending.clear();
        }
        self.cycles = 1;
        self.unknown = false;
        before - usize::from(keep)
    }

    /// Forgets everything; returns how many exchanges are given up.
    pub(super) fn clear(&mut self) -> usize {
        let given_up = self.exchanges();
        *self = Self::default();
        given_up
    }
}
