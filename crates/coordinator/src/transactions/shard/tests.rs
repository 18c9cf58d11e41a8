use vocabulary::Timestamp;

use super::*;
use crate::transactions::command::{EndTransaction, InitProducer};

mod lives;
mod properties;
mod simulation;

const ID: &str = "tx";

/// A shard, its log, and the orders nobody has carried out yet. Everything is durable at once.
struct Bench {
    shard: TransactionShard,
    options: TransactionOptions,
    now: Now,
    log: Vec<TransactionEvent>,
    orders: Vec<MarkersOrder>,
    tally: TransactionTally,
    tickets: u64,
    producers: i64,
}

fn tiny() -> TransactionOptions {
    TransactionOptions { ids_max: 4, record_bytes_max: 400, ..TransactionOptions::default() }
}

impl Bench {
    fn new() -> Bench {
        let options = tiny();
        Bench {
            shard: TransactionShard::new(options.clone()),
            options,
            now: Now { tick: Tick(1_000), wall: Timestamp(1_000_000) },
            log: Vec::new(),
            orders: Vec::new(),
            tally: TransactionTally::default(),
            tickets: 0,
            producers: 100,
        }
    }

    fn collect(&mut self, outputs: TransactionOutputs) -> Vec<TransactionReply> {
        self.log.extend(outputs.units.into_iter().flatten());
        self.orders.extend(outputs.orders);
        self.tally.timed_out += outputs.tally.timed_out;
        self.tally.expired += outputs.tally.expired;
        outputs.answers.into_iter().map(|it| it.reply).collect()
    }

    fn step(&mut self, input: TransactionInput) -> Vec<TransactionReply> {
        let mut outputs = TransactionOutputs::default();
        self.shard.step(self.now, input, &mut outputs);
        self.collect(outputs)
    }

    fn ask(&mut self, command: TransactionCommand) -> TransactionReply {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.step(TransactionInput::Request { ticket, command }).remove(0)
    }

    fn init(
        &mut self,
        id: &str,
        claimed: Option<(ProducerId, i16)>,
    ) -> Result<(ProducerId, i16), ErrorCode> {
        let mut init = InitProducer { id: id.to_owned(), timeout_ms: 60_000, claimed, fresh: None };
        let mut reply = self.ask(TransactionCommand::Init(init.clone()));
        if reply == TransactionReply::NeedsProducerId {
            self.producers += 1;
            init.fresh = Some(ProducerId(self.producers));
            reply = self.ask(TransactionCommand::Init(init));
        }
        producer(reply)
    }

    fn add(&mut self, who: (ProducerId, i16), version: TransactionVersion) -> ErrorCode {
        let partitions = partitions(&[0, 1]);
        let (producer, epoch) = who;
        let add = AddPartitions { id: ID.to_owned(), producer, epoch, partitions, version };
        match self.ask(TransactionCommand::Add(add)) {
            TransactionReply::Added(code) => code,
            other => panic!("{other:?}"),
        }
    }

    fn end(
        &mut self,
        (who, epoch): (ProducerId, i16),
        result: TransactionResult,
        version: TransactionVersion,
    ) -> Result<(ProducerId, i16), ErrorCode> {
        let id = ID.to_owned();
        let mut end = EndTransaction { id, producer: who, epoch, result, version, fresh: None };
        let mut reply = self.ask(TransactionCommand::End(end.clone()));
        if reply == TransactionReply::NeedsProducerId {
            self.producers += 1;
            end.fresh = Some(ProducerId(self.producers));
            reply = self.ask(TransactionCommand::End(end));
        }
        producer(reply)
    }

    /// Markers are written: all orders, oldest first. Says which have completed something.
    fn carry_out(&mut self) -> Vec<bool> {
        let orders = std::mem::take(&mut self.orders);
        let told = orders.into_iter().map(|MarkersOrder { id, producer, epoch, .. }| {
            match self.ask(TransactionCommand::MarkersWritten { id, producer, epoch }) {
                TransactionReply::Completed(done) => done,
                other => panic!("{other:?}"),
            }
        });
        told.collect()
    }

    fn wait(&mut self, ms: u64) {
        self.now.tick = self.now.tick.plus(Duration::from_millis(ms));
        self.now.wall.0 += ms as i64;
        while self.shard.wake_at().is_some_and(|at| at <= self.now.tick) {
            self.step(TransactionInput::TimePassed);
        }
    }

    fn restart(&mut self) {
        let mut shard = TransactionShard::new(self.options.clone());
        self.log.iter().for_each(|it| shard.apply(it.clone()));
        let (live, replayed) = (self.shard.images(), shard.images());
        assert!(live.eq(replayed), "state after replay is the live state");
        self.shard = shard;
        self.orders.clear();
        let mut outputs = TransactionOutputs::default();
        self.shard.start(self.now, &mut outputs);
        self.collect(outputs);
        self.shard.check();
    }

    fn image(&self) -> &TransactionImage {
        &self.shard.transactions.get(ID).expect("the id exists").image
    }

    fn state(&self) -> TransactionState {
        self.image().state
    }

    /// As if a client had gone through this many epochs.
    fn set_epoch(&mut self, epoch: i16) {
        let image = TransactionImage { epoch, ..self.image().clone() };
        let event = TransactionEvent::Stored { id: ID.to_owned(), image };
        self.shard.apply(event.clone());
        self.log.push(event);
    }
}

fn producer(reply: TransactionReply) -> Result<(ProducerId, i16), ErrorCode> {
    match reply {
        TransactionReply::Producer(result) => result,
        other => panic!("{other:?}"),
    }
}

fn partitions(indexes: &[i32]) -> TransactionPartitions {
    BTreeMap::from([("t".to_owned(), indexes.iter().copied().collect())])
}
