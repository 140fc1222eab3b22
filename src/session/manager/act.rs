//! What is asked of a session, done here, with its slot held.

use std::{sync::PoisonError, time::Duration};

use entity::{
    id::{MessageId, SessionKey},
    session,
    state::DesiredState,
};
use tokio::sync::{mpsc::error::TrySendError, oneshot};

use super::{
    Sessions,
    run::{Run, Why, end, told_to_restart, told_to_stop},
};
use crate::{
    device,
    event::{Care, Change, Disconnect, Event},
    session::{
        Error, LoggedOut, PairingCode,
        ownership::{Answer, Ask, Hold},
        runner::Command,
        standing::is_ended,
    },
};

/// How long a caller waits for a session's answer. Longer than anything a session waits for itself.
const ANSWER_DEADLINE: Duration = Duration::from_secs(45);

impl Sessions {
    /// Does here what is asked for.
    pub(in crate::session) async fn obey(
        &self,
        key: &SessionKey,
        ask: Ask,
    ) -> Result<Answer, Error> {
        let logged_out =
            |logged_out: LoggedOut| Answer::LoggedOut { unlinked: logged_out.unlinked };
        match ask {
            Ask::Start => self.do_start(key).await.map(|()| Answer::Done),
            Ask::Stop => self.do_stop(key).await.map(|()| Answer::Done),
            Ask::Restart => self.do_restart(key).await.map(|()| Answer::Done),
            Ask::Logout => self.do_logout(key).await.map(logged_out),
            Ask::Erase { logout } => self.do_erase(key, logout).await.map(logged_out),
            Ask::Pair { phone_number } => {
                let PairingCode { code, expires_at } = self.do_pair(key, phone_number).await?;
                Ok(Answer::Code { code, expires_at })
            }
            Ask::Send { message } => {
                let message = message.parse().map_err(|_| Error::NotFound)?;
                self.do_send(key, message).await.map(|()| Answer::Done)
            }
            Ask::RenewMedia { message } => {
                let message = message.parse().map_err(|_| Error::NotFound)?;
                self.do_renew_media(key, &message).await.map(|()| Answer::Done)
            }
        }
    }

    async fn do_start(&self, key: &SessionKey) -> Result<(), Error> {
        let place = self.slot(key);
        let mut slot = place.lock().await;
        if self.wanted(key).await? == DesiredState::Stopped {
            return Ok(());
        }
        if let Some(run) = slot.as_ref()
            && !run.stop.is_cancelled()
            && !matches!(run.commands.try_send(Command::Dial), Err(TrySendError::Closed(_)))
        {
            return Ok(());
        }
        // It has ended by itself, or is about to.
        let mut before = None;
        if let Some(run) = slot.take() {
            run.task.await.ok();
            // Also what it left to be done later.
            run.stop.cancel();
            before = Some(run.hold);
        }
        let hold = match self.ownership.own(key).await {
            Ok(hold) => hold,
            Err(error) => {
                // Whoever looks what nobody runs does it then.
                if let Some(before) = before {
                    self.ownership.release(&before).await;
                }
                return Err(error);
            }
        };
        *slot = Some(self.begin(hold, Why::Operator).await?);
        Ok(())
    }

    pub(super) async fn do_stop(&self, key: &SessionKey) -> Result<(), Error> {
        let place = self.slot(key);
        let mut slot = place.lock().await;
        if matches!(self.wanted(key).await, Ok(DesiredState::Running)) {
            return Ok(());
        }
        let hold = self.ownership.own(key).await?;
        let _closing = place.closing();
        let run = told_to_stop(slot.take());
        let concluded = self.conclude(&hold, Disconnect::Stopped).await;
        end(run).await;
        self.ownership.release(&hold).await;
        concluded
    }

    async fn do_restart(&self, key: &SessionKey) -> Result<(), Error> {
        let place = self.slot(key);
        let mut slot = place.lock().await;
        if self.wanted(key).await? == DesiredState::Stopped {
            return Ok(());
        }
        let hold = self.ownership.own(key).await?;
        let _closing = place.closing();
        let why = match told_to_restart(slot.take()) {
            None => Ok(Why::Operator),
            run => {
                let said = self.say_restarted(&hold).await;
                end(run).await;
                said
            }
        };
        match why {
            Ok(why) => *slot = Some(self.begin(hold, why).await?),
            Err(error) => {
                // Whoever looks what nobody runs takes it up.
                self.ownership.release(&hold).await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn do_logout(&self, key: &SessionKey) -> Result<LoggedOut, Error> {
        let place = self.slot(key);
        let mut slot = place.lock().await;
        let hold = self.ownership.own(key).await?;
        let _closing = place.closing();
        let run = slot.take();
        // However WhatsApp answers, this device is of no use any more. Cut off here, the session is what
        // this says: started again, it finds out whether WhatsApp has heard of it.
        let mut outcome = self.conclude(&hold, Disconnect::LoggedOutHere).await;
        let logged_out = self.close(run, outcome.is_ok()).await;
        if outcome.is_ok() {
            outcome = self.forget_device(&hold).await;
        }
        let wanted = match outcome {
            Ok(()) => self.wanted(key).await,
            Err(error) => Err(error),
        };
        if matches!(wanted, Ok(DesiredState::Running)) {
            *slot = Some(self.begin(hold, Why::Operator).await?);
        } else {
            self.ownership.release(&hold).await;
        }
        wanted.map(|_| logged_out)
    }

    async fn do_erase(&self, key: &SessionKey, logout: bool) -> Result<LoggedOut, Error> {
        let place = self.slot(key);
        let mut slot = place.lock().await;
        let hold = self.ownership.own(key).await?;
        let _closing = place.closing();
        let run = slot.take();
        let run = if logout { run } else { told_to_stop(run) };
        let said = self.conclude(&hold, Disconnect::Stopped).await;
        let logged_out = self.close(run, logout && said.is_ok()).await;
        let erased = async {
            said?;
            let sessions = hold.store(&self.shared.store).sessions();
            let row = sessions.find_by_key(key).await?.ok_or(Error::NotFound)?;
            self.forget_device(&hold).await?;
            // While the slot is held: whoever waits for it finds nothing to start.
            Ok(sessions.delete(&row.organization_id, key).await?)
        };
        if let Err(error) = erased.await {
            self.ownership.release(&hold).await;
            return Err(error);
        }
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(logged_out)
    }

    async fn do_pair(&self, key: &SessionKey, phone_number: String) -> Result<PairingCode, Error> {
        self.do_start(key).await?;
        self.ask(key, |answer| Command::Pair { phone_number, answer }).await?
    }

    async fn do_send(&self, key: &SessionKey, message: MessageId) -> Result<(), Error> {
        match self.ask(key, |answer| Command::Send { message, answer }).await {
            Err(Error::NotRunning) => match self.ownership.owner(key).await? {
                Some(node) => Err(Error::Elsewhere { node }),
                None => Err(self.not_connected(key).await),
            },
            Ok(Err(Error::NotConnected { .. })) => Err(self.not_connected(key).await),
            Ok(sent) => sent,
            Err(error) => Err(error),
        }
    }

    /// What is wanted of a session. Asked while its slot is held: who wanted something else came
    /// before, or waits for the slot, and the last wish is the one that counts.
    async fn wanted(&self, key: &SessionKey) -> Result<DesiredState, Error> {
        let row = self.shared.store.sessions().find_by_key(key).await?.ok_or(Error::NotFound)?;
        Ok(row.desired_state)
    }

    /// Asks the run of a session for something.
    pub(super) async fn ask<T>(
        &self,
        key: &SessionKey,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Error> {
        self.ask_run(key, command).await.map(|(answer, _)| answer)
    }

    /// The same, with the right under which the run that was asked has answered: what it has found out is not written
    /// once the session is somebody else's.
    pub(super) async fn ask_run<T>(
        &self,
        key: &SessionKey,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<(T, Hold), Error> {
        let (answer, answered) = oneshot::channel();
        let (commands, hold) = {
            let place = self.slot(key);
            // Known before it has closed.
            if place.is_closing() {
                return Err(Error::NotRunning);
            }
            let slot = place.lock().await;
            let run = slot.as_ref().ok_or(Error::NotRunning)?;
            (run.commands.clone(), run.hold.clone())
        };
        commands.try_send(command(answer)).map_err(|refused| match refused {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Closed(_) => Error::NotRunning,
        })?;
        let answer = tokio::time::timeout(ANSWER_DEADLINE, answered)
            .await
            .map_err(|_elapsed| Error::Timeout)?
            // The run ended before it came to this command.
            .map_err(|_dropped| Error::NotRunning)?;
        Ok((answer, hold))
    }

    /// Ends a run; with `unlink`, WhatsApp is told first that the device is gone.
    async fn close(&self, run: Option<Run>, unlink: bool) -> LoggedOut {
        let mut logged_out = LoggedOut { unlinked: false };
        if unlink && let Some(run) = &run {
            let (answer, answered) = oneshot::channel();
            if run.commands.try_send(Command::Logout { answer }).is_ok()
                && let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_DEADLINE, answered).await
            {
                logged_out = answer;
            }
        }
        end(run).await;
        logged_out
    }

    async fn forget_device(&self, hold: &Hold) -> Result<(), Error> {
        let store = hold.store(&self.shared.store);
        let row = store.sessions().find_by_key(hold.session()).await?.ok_or(Error::NotFound)?;
        if let Some(device_id) = row.device_id {
            device::erase(&store, device_id).await?;
        }
        Ok(())
    }

    /// Records the end of a session whose client is about to be closed, or is.
    async fn conclude(&self, hold: &Hold, reason: Disconnect) -> Result<(), Error> {
        let (row, generation) = self.supersede(hold).await?;
        // Stopping what has ended says nothing new, and must not hide why it ended.
        if reason == Disconnect::Stopped && is_ended(row.status) && row.next_attempt_at.is_none() {
            return Ok(());
        }
        let care = Care { next_attempt_at: None, ..Care::of(&row) };
        self.ingest(hold, &row, generation).record_with(Event::Disconnected(reason), care).await?;
        Ok(())
    }

    /// Records that a session is dialled anew, before its client is closed. Answers how it is begun.
    async fn say_restarted(&self, hold: &Hold) -> Result<Why, Error> {
        let (row, generation) = self.supersede(hold).await?;
        // Of one that has ended the next run says so, which has to know what it ended with.
        if is_ended(row.status) {
            return Ok(Why::Operator);
        }
        let connecting = Event::ChangeState(Change::Connecting);
        self.ingest(hold, &row, generation).record_with(connecting, Care::default()).await?;
        Ok(Why::Restart)
    }

    /// Has whatever an earlier run still says of the session's status come too late. Answers what its row
    /// says by then, and the number under which more is said.
    ///
    /// Waits for the database: nobody else is left to say what is true.
    async fn supersede(&self, hold: &Hold) -> Result<(session::Model, i64), Error> {
        let key = hold.session();
        let sessions = hold.store(&self.shared.store).sessions();
        let generation = sessions.next_generation(key).await?.ok_or(Error::NotFound)?;
        let row = sessions.wait_by_key(key).await?.ok_or(Error::NotFound)?;
        Ok((row, generation))
    }

    pub(super) async fn not_connected(&self, key: &SessionKey) -> Error {
        match self.shared.store.sessions().find_by_key(key).await {
            Ok(Some(row)) => Error::NotConnected { status: row.status },
            Ok(None) => Error::NotFound,
            Err(error) => Error::Store(error),
        }
    }
}
