//! What is said while at work: a line for each event, and on a terminal a last line that shows what is waited for.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::{self, ASIDE};

pub(super) struct Progress {
    quiet: bool,
    start: Instant,
    /// `None` where nobody watches.
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let bar = (!quiet && terminal::is_watched()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        Self {
            quiet,
            start: Instant::now(),
            bar,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Says what happened, escaped: servers choose much of it.
    pub(super) fn say(&self, what: &str) {
        if self.quiet {
            return;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let line = format!(
            "{ASIDE}{seconds:6.1} s{ASIDE:#}  {}",
            terminal::escape(what)
        );
        match &self.bar {
            Some(bar) => bar.println(terminal::for_stderr(&line)),
            // Whoever closed the pipe wants to read no more; the result is another matter.
            None => _ = writeln!(anstream::stderr(), "{line}"),
        }
    }

    /// Shows what is waited for, where somebody watches.
    pub(super) fn show(&self, status: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(terminal::escape(&status()));
            bar.tick();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
