//! The eight-character code of one client: asked for once, given to everybody who asks.
//!
//! It lives beside the QR codes, on the same connection, and their rotation does not touch it.

use entity::UnixMillis;
use tokio::sync::{mpsc, oneshot};

use super::{
    Error, PairingCode,
    client::{Link, PairError},
};
use crate::{clock::Clock, event::Event};

/// How a caller is told of its code.
pub(super) type Answer = oneshot::Sender<Result<PairingCode, Error>>;

/// What WhatsApp answered.
pub(super) type Answered = Result<PairingCode, PairError>;

/// The code of one client.
#[derive(Debug)]
pub(super) struct Pairing {
    asked: Option<Asked>,
    given: Option<Given>,
    teller: mpsc::UnboundedSender<Answered>,
    answers: mpsc::UnboundedReceiver<Answered>,
}

/// A code that WhatsApp is being asked for.
#[derive(Debug)]
struct Asked {
    phone_number: String,
    waiting: Vec<Answer>,
}

/// A code that may be being typed.
#[derive(Debug)]
struct Given {
    phone_number: String,
    code: PairingCode,
}

impl Pairing {
    pub(super) fn new() -> Self {
        let (teller, answers) = mpsc::unbounded_channel();
        Self { asked: None, given: None, teller, answers }
    }

    /// Somebody wants a code for the phone with this number.
    ///
    /// One that is good is given again. Another number has to wait until it is not: two codes at a
    /// time end both.
    pub(super) fn ask(&mut self, link: &Link, clock: &Clock, phone_number: String, answer: Answer) {
        let now = clock.now();
        self.given.take_if(|given| given.code.expires_at <= now);
        match (&mut self.asked, &self.given) {
            (Some(asked), _) if asked.phone_number == phone_number => asked.waiting.push(answer),
            (_, Some(given)) if given.phone_number == phone_number => {
                // The caller may have given up; that is its right.
                answer.send(Ok(given.code.clone())).ok();
            }
            (None, None) => {
                let (teller, clock) = (self.teller.clone(), clock.clone());
                link.pair(phone_number.clone(), clock, move |answered| {
                    // Nobody listens any more when the client has ended.
                    teller.send(answered).ok();
                });
                self.asked = Some(Asked { phone_number, waiting: vec![answer] });
            }
            (asked, given) => {
                let free_at =
                    given.as_ref().filter(|_| asked.is_none()).map(|it| it.code.expires_at);
                let remaining = free_at.unwrap_or(now).since(now);
                answer.send(Err(Error::Pair(PairError::Outstanding { remaining }))).ok();
            }
        }
    }

    /// WhatsApp's next answer. Safe to give up waiting for.
    pub(super) async fn answered(&mut self) -> Answered {
        match self.answers.recv().await {
            Some(answered) => answered,
            // Cannot be: one sender is ours.
            None => std::future::pending().await,
        }
    }

    /// What an answer means to the session.
    pub(super) fn event(answered: &Answered) -> Option<Event> {
        match answered {
            Ok(code) => Some(Event::PairingCode { expires_at: code.expires_at, is_last: false }),
            Err(error) => error.failure().map(Event::PairingFailed),
        }
    }

    /// Tells everybody who waits for it.
    pub(super) fn settle(&mut self, answered: &Answered) {
        let Some(asked) = self.asked.take() else { return };
        for waiting in asked.waiting {
            waiting.send(answered.clone().map_err(Error::Pair)).ok();
        }
        if let Ok(code) = answered {
            self.given = Some(Given { phone_number: asked.phone_number, code: code.clone() });
        }
    }

    /// Whether WhatsApp is being asked for a code.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// The code is no good any more. Whether there was one.
    pub(super) fn withdraw(&mut self) -> bool {
        self.given.take().is_some()
    }

    /// Until when a code can be typed, if one was given.
    pub(super) fn good_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.given.as_ref().map(|given| given.code.expires_at).filter(|until| now < *until)
    }
}
