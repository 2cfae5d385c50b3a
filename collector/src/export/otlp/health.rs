//! What people are told of a destination: one line when it goes away, one when it is back, and no flood in between.

use std::time::{Duration, Instant};

use super::{retry::Failure, settings::Signal};

/// The state of one destination as far as it has been told.
#[derive(Debug)]
pub(super) struct Health {
    signal: Signal,
    endpoint: String,
    down_since: Option<Instant>,
    /// A backend that flaps is told about this often at most.
    last_down_line: Option<Instant>,
    /// The last time it went away was told, so its return is worth telling.
    told_down: bool,
    last_drop_line: Option<Instant>,
    told_partial: bool,
}

const QUIET: Duration = Duration::from_secs(60);

impl Health {
    pub(super) fn new(signal: Signal, endpoint: String) -> Self {
        Self {
            signal,
            endpoint,
            down_since: None,
            last_down_line: None,
            told_down: false,
            last_drop_line: None,
            told_partial: false,
        }
    }

    /// A request was taken.
    pub(super) fn up(&mut self) {
        if let Some(since) = self.down_since.take() {
            let (signal, endpoint, away) = (self.signal.name(), &self.endpoint, since.elapsed());
            if std::mem::take(&mut self.told_down) {
                tracing::info!("{endpoint} takes {signal} again after {away:.0?}");
            } else {
                tracing::debug!("{endpoint} takes {signal} again after {away:.0?}");
            }
        }
    }

    /// A request was refused: the backend is there, but nothing is well. The line about the drop says more.
    pub(super) fn answered(&mut self) {
        self.down_since = None;
    }

    /// An attempt failed and will be repeated.
    pub(super) fn down(&mut self, failure: &Failure) {
        let (signal, endpoint, message) = (self.signal.name(), &self.endpoint, &failure.message);
        if self.down_since.is_none() {
            self.down_since = Some(Instant::now());
            if quiet_enough(&mut self.last_down_line) {
                self.told_down = true;
                tracing::warn!("failed to send {signal} to {endpoint}, will keep trying: {message}");
                return;
            }
        }
        tracing::debug!("failed to send {signal} to {endpoint}, will try again: {message}");
    }

    /// Items were given up.
    pub(super) fn dropped(&mut self, items: u64, why: &str) {
        let (what, endpoint) = (self.signal.items(), &self.endpoint);
        if quiet_enough(&mut self.last_drop_line) {
            tracing::warn!("dropped {items} {what} for {endpoint}: {why}");
        } else {
            tracing::debug!("dropped {items} {what} for {endpoint}: {why}");
        }
    }

    /// The backend took a request but had something to say.
    pub(super) fn partial(&mut self, rejected: u64, message: &str) {
        let (what, endpoint) = (self.signal.items(), &self.endpoint);
        let message = super::retry::printable(message);
        if std::mem::replace(&mut self.told_partial, true) {
            tracing::debug!("{endpoint} rejected {rejected} {what}: {message}");
        } else {
            tracing::warn!(
                "{endpoint} rejected {rejected} {what}: {message} (further ones are only counted)"
            );
        }
    }
}

/// True, and remembered, if the last such line is long ago.
fn quiet_enough(last: &mut Option<Instant>) -> bool {
    let enough = last.is_none_or(|at| at.elapsed() >= QUIET);
    if enough {
        *last = Some(Instant::now());
    }
    enough
}
