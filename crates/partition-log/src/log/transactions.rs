//! A partition's side of transactions: markers, the last stable offset, what is open (KIP-98, KIP-890).
//!
//! Owns: writing markers, how far everything is decided, making the producers known for that.
//! Does not own: which transactions are open (`producers`), who decides (a coordinator, elsewhere), the
//! aborted ones (`read::aborted`).
//!
//! The table of producers is as of the end, readers see what is durable: a transaction whose marker is
//! on its way to the WAL is still undecided for them. Those few are kept beside the table until the
//! high watermark has passed their markers. So the last stable offset only moves together with the
//! high watermark or the log start, and whoever waits for those is woken for it.
//!
//! A partition is opened without reading anything. What was open when the last run was committed is in
//! the producers' snapshot, which is read when somebody first needs it: an idempotent append, or a
//! reader of committed records.

use super::producers::{MarkerVerdict, ProducerTable};
use super::{
    AppendError, Appended, DurableWait, LogState, MarkerRule, OpenTransaction, PartitionLog,
    ProducerState, ReadLimit,
};
use crate::read::ReadError;
use crate::segment::MarkerEntry;
use crate::wal::Reservation;
use protocol::records::{Batch, EndTxnMarker};
use vocabulary::{Offset, ProducerId, Timestamp};

/// Where a log ended before its caller asked a coordinator whether a transaction is open: an append that
/// carries it is refused if a marker came in between (KIP-890, part 1: no transaction hangs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    pub(super) end: Offset,
}

/// Transactions that ended above the high watermark: where each starts, and where its marker ends.
/// Bounded by the appends in flight.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    ended: Vec<(Offset, Offset)>,
}

impl Undecided {
    pub(super) fn became_durable(&mut self, high_watermark: Offset) {
        if !self.ended.is_empty() {
            self.ended.retain(|(_, marker_end)| high_watermark < *marker_end);
            self.ended.shrink_to(self.ended.len() * 2);
        }
    }

    fn first(&self) -> Option<Offset> {
        self.ended.iter().map(|(first, _)| *first).min()
    }
}

impl LogState {
    /// See [`super::LogOffsets::last_stable`].
    pub(super) fn last_stable(&self) -> Offset {
        let first_open = match &self.producers {
            Some(table) => table.first_open(),
            None if self.is_without_producers() => None,
            None => Some(self.log_start),
        };
        let first = first_open.into_iter().chain(self.undecided.first()).min();
        // Deleting records takes undecided ones along.
        first.map_or(self.high_watermark, |it| it.max(self.log_start).min(self.high_watermark))
    }

    /// Whether it is certain, without a table, that there are none: neither committed runs nor
    /// recovery left any, and an idempotent append would have loaded the table.
    pub(super) fn is_without_producers(&self) -> bool {
        let base = self.base_producers.as_ref();
        !self.is_tail_produced && base.is_some_and(|it| it.is_empty())
    }

    fn are_producers_known(&self) -> bool {
        self.producers.is_some() || self.is_without_producers()
    }
}

/// A marker that is not refused.
enum MarkerFits {
    New,
    /// It is there already, at this offset unless it is long ago.
    Repeated(Option<Offset>),
}

fn fits(
    table: &ProducerTable,
    producer: ProducerId,
    epoch: i16,
    marker: EndTxnMarker,
    rule: MarkerRule,
) -> Result<MarkerFits, AppendError> {
    match table.judge_marker(producer, epoch, marker, rule) {
        MarkerVerdict::Append => Ok(MarkerFits::New),
        MarkerVerdict::Repeated(at) => Ok(MarkerFits::Repeated(at)),
        MarkerVerdict::StaleEpoch { current } => {
            Err(AppendError::StaleProducerEpoch { epoch, current })
        }
        MarkerVerdict::StaleCoordinator { current } => {
            let epoch = marker.coordinator_epoch;
            Err(AppendError::StaleCoordinatorEpoch { epoch, current })
        }
    }
}

impl PartitionLog {
    /// Ends a producer's transaction here, if one is open, with a control batch of one offset. It may
    /// be repeated.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; none of those returned here has written anything.
    pub async fn append_marker(
        &self,
        producer: ProducerId,
        epoch: i16,
        marker: EndTxnMarker,
        rule: MarkerRule,
    ) -> Result<Appended, AppendError> {
        let now = self.shared.environment.clock.wall();
        let batch = marker.batch(producer, epoch, now);
        let reservation = self.make_ready(batch.header.byte_length(), true).await?;
        self.append_marker_now(batch, marker, rule, reservation)
    }

    fn append_marker_now(
        &self,
        batch: Batch,
        marker: EndTxnMarker,
        rule: MarkerRule,
        reservation: Reservation,
    ) -> Result<Appended, AppendError> {
        let log = self.weak().upgrade().ok_or(AppendError::Removed)?;
        let (producer, epoch) = (ProducerId(batch.header.producer_id), batch.header.producer_epoch);
        let mut state = self.state();
        self.check_open()?;
        let table = state.producers.as_ref().ok_or(AppendError::Unavailable)?;
        if let MarkerFits::Repeated(at) = fits(table, producer, epoch, marker, rule)? {
            return Ok(self.answer_marker(&state, at));
        }
        let first_offset = table.open_of(producer).map(|it| it.first_offset);
        if let Some(first) = first_offset {
            let marker_end = state.end.plus(1);
            state.undecided.ended.push((first, marker_end));
        }
        let entry = MarkerEntry { marker, first_offset };
        Ok(self.write(log, &mut state, batch, Some(entry), reservation))
    }

    /// Whether a marker would be refused now, for whoever must know before it acts on it.
    ///
    /// # Errors
    ///
    /// The refusal, as of [`PartitionLog::append_marker`].
    pub async fn check_marker(
        &self,
        producer: ProducerId,
        epoch: i16,
        marker: EndTxnMarker,
        rule: MarkerRule,
    ) -> Result<(), AppendError> {
        self.load_producers().await.map_err(|_| AppendError::Unavailable)?;
        self.check_open()?;
        match &self.state().producers {
            Some(table) => fits(table, producer, epoch, marker, rule).map(|_| ()),
            None => Ok(()), // Nobody has produced here.
        }
    }

    /// As durable as the marker that is there; without its place, as everything that is.
    fn answer_marker(&self, state: &LogState, at: Option<Offset>) -> Appended {
        let (base_offset, end_offset) =
            at.map_or((state.end, state.end), |offset| (offset, offset.plus(1)));
        let durable = match end_offset <= state.high_watermark {
            true => DurableWait::durable(),
            false => self.waits().until(end_offset),
        };
        let log_append_time = Timestamp::NONE;
        Appended { base_offset, end_offset, log_append_time, durable, duplicate: true }
    }

    /// To be taken before a coordinator is asked about a transaction that is about to write here, and
    /// to be given to the append.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`], as of [`PartitionLog::load_producers`].
    pub async fn verification(&self) -> Result<Verification, ReadError> {
        self.load_producers().await?;
        Ok(Verification { end: self.state().end })
    }

    /// The transaction that a producer has open here.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`], as of [`PartitionLog::load_producers`].
    pub async fn open_transaction(
        &self,
        producer: ProducerId,
    ) -> Result<Option<OpenTransaction>, ReadError> {
        self.load_producers().await?;
        Ok(self.state().producers.as_ref().and_then(|it| it.open_of(producer)))
    }

    /// The producers, idempotent and transactional, in order of their ids.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`], as of [`PartitionLog::load_producers`].
    pub async fn producer_states(&self) -> Result<Vec<ProducerState>, ReadError> {
        self.load_producers().await?;
        Ok(self.state().producers.as_ref().map_or(Vec::new(), |it| it.states()))
    }

    /// Makes the producers known, and with them the last stable offset. Costs nothing once they are; at
    /// a partition's first use one question to the metadata and, mostly, the index of its last run.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] when they cannot be read now.
    pub async fn load_producers(&self) -> Result<(), ReadError> {
        if self.state().are_producers_known() {
            return Ok(());
        }
        self.ensure_producers().await.map_err(|_| ReadError::Unavailable)
    }

    /// Whatever a read up to `limit` must know before it looks where that is.
    pub(crate) async fn make_known(&self, limit: ReadLimit) -> Result<(), ReadError> {
        match limit {
            ReadLimit::HighWatermark => Ok(()),
            ReadLimit::LastStable => self.load_producers().await,
        }
    }
}
