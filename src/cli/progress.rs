//! How far something long has come, for whoever waits at a terminal.
//!
//! Drawn on standard error, and wiped at the end. Nothing is drawn where nobody looks: in JSON, in a pipe, in
//! the journal.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::backup::Stage;

/// How often it is drawn.
const OFTEN: Duration = Duration::from_millis(100);

/// With a known end, and without one.
const BAR: &str = "{msg}  {wide_bar}  {bytes} of {total_bytes}, {eta}";
const BYTES: &str = "{spinner} {msg}  {bytes}, {elapsed}";
const TIME: &str = "{spinner} {msg}  {elapsed}";

/// What is drawn, from its making to its end.
pub(super) struct Progress {
    drawn: Option<(Sender<News>, JoinHandle<()>)>,
}

/// What goes on from now on.
struct News {
    says: &'static str,
    /// The file that grows.
    file: Option<PathBuf>,
    /// How long it will be.
    of: Option<u64>,
}

impl Progress {
    /// On a terminal, unless what is printed is for programs.
    pub(super) fn new(json: bool) -> Self {
        if json || !io::stderr().is_terminal() {
            return Self { drawn: None };
        }
        let (sender, news) = mpsc::channel();
        let thread = std::thread::Builder::new().name("progress".to_owned());
        // Without it the work is done all the same.
        let thread = thread.spawn(move || draw(&news)).ok();
        Self { drawn: thread.map(|thread| (sender, thread)) }
    }

    /// Something of which nobody knows how far it has come.
    pub(super) fn says(&self, says: &'static str) {
        self.tell(News { says, file: None, of: None });
    }

    /// What a copy is at.
    pub(super) fn stage(&self, stage: Stage<'_>) {
        let follow = |says, file: &Path, of| News { says, file: Some(file.to_owned()), of };
        match stage {
            Stage::Copying { into, of } => self.tell(follow("Copying", into, of)),
            Stage::Filling => self.says("Filling the database"),
            Stage::Checking => self.says("Checking the copy"),
        }
    }

    fn tell(&self, news: News) {
        if let Some((sender, _)) = &self.drawn {
            sender.send(news).ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.drawn.take() {
            drop(sender);
            // So that what is said next does not get into it.
            thread.join().ok();
        }
    }
}

/// Until nobody has anything to tell any more.
fn draw(news: &mpsc::Receiver<News>) {
    let mut drawn: Option<(ProgressBar, Option<PathBuf>)> = None;
    loop {
        match news.recv_timeout(OFTEN) {
            Ok(news) => {
                if let Some((before, _)) = &drawn {
                    before.finish_and_clear();
                }
                drawn = Some((bar(&news), news.file));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let Some((bar, file)) = &drawn {
            if let Some(found) = file.as_ref().and_then(|file| fs::metadata(file).ok()) {
                bar.set_position(found.len());
            }
            bar.tick();
        }
    }
    if let Some((bar, _)) = drawn {
        bar.finish_and_clear();
    }
}

fn bar(news: &News) -> ProgressBar {
    let template = match (&news.file, news.of) {
        (Some(_), Some(_)) => BAR,
        (Some(_), None) => BYTES,
        (None, _) => TIME,
    };
    ProgressBar::with_draw_target(news.of, ProgressDrawTarget::stderr())
        .with_style(style(template))
        .with_message(news.says)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_well_formed() {
        for template in [BAR, BYTES, TIME] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
