//! Producers as they are, against the machine and a model of partitions, with a seed: requests and answers get lost,
//! markers take their time, producers crash and others take over their id, the coordinator restarts.
//!
//! Safety, at the end: what a producer was told to be committed is committed in every partition it wrote to, what it
//! was told to be aborted is in none, and no transaction is half of each. Liveness: no transaction is left open in
//! any partition once nobody writes any more.

use super::*;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, enough to choose by.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What a partition does with producers (KIP-98, KIP-890): the other half of the contract.
#[derive(Default)]
struct PartitionModel {
    epochs: BTreeMap<ProducerId, i16>,
    open: BTreeMap<ProducerId, Vec<u64>>,
    ended: BTreeMap<u64, TransactionResult>,
}

impl PartitionModel {
    fn write(&mut self, (producer, epoch): (ProducerId, i16), value: u64) -> bool {
        let newest = self.epochs.entry(producer).or_insert(epoch);
        if epoch < *newest {
            return false;
        }
        *newest = epoch;
        self.open.entry(producer).or_default().push(value);
        true
    }

    fn mark(&mut self, order: &MarkersOrder) {
        let newest = self.epochs.entry(order.producer).or_insert(order.epoch);
        assert!(*newest <= order.epoch, "a marker is never stale");
        let open = self.open.remove(&order.producer);
        let is_newer = order.version == TransactionVersion::V1 || *newest < order.epoch;
        assert!(is_newer || open.is_none(), "a marker of the new rules is newer than the records");
        *newest = order.epoch;
        for value in open.unwrap_or_default() {
            let before = self.ended.insert(value, order.result);
            assert!(before.is_none_or(|it| it == order.result), "one end for each transaction");
        }
    }
}

struct Producer {
    version: TransactionVersion,
    who: Option<(ProducerId, i16)>,
    /// The transaction it is in: its number, and whether it is to be committed.
    current: Option<(u64, bool)>,
    /// It has asked for the end, and writes nothing until it has an answer.
    ending: bool,
}

impl Producer {
    fn start_anew(&mut self) {
        (self.who, self.current, self.ending) = (None, None, false);
    }
}

struct World {
    random: Random,
    bench: Bench,
    partitions: [PartitionModel; 3],
    written: BTreeMap<u64, BTreeSet<usize>>,
    told: BTreeMap<u64, TransactionResult>,
    transactions: u64,
}

/// The partitions are those of one topic.
fn one(index: usize) -> TransactionPartitions {
    partitions(&[index as i32])
}

impl World {
    /// The request may never arrive, and its answer may never come back.
    fn ask(&mut self, command: TransactionCommand) -> Option<TransactionReply> {
        if self.random.one_in(12) {
            return None;
        }
        let reply = self.bench.ask(command);
        (!self.random.one_in(12)).then_some(reply)
    }

    fn fresh(&mut self) -> Option<ProducerId> {
        self.bench.producers += 1;
        Some(ProducerId(self.bench.producers))
    }

    fn act(&mut self, producer: &mut Producer) {
        let Some(who) = producer.who else {
            let (id, fresh) = (ID.to_owned(), self.fresh());
            let init = InitProducer { id, timeout_ms: 60_000, claimed: None, fresh };
            let reply = self.ask(TransactionCommand::Init(init));
            if let Some(TransactionReply::Producer(Ok(who))) = reply {
                producer.who = Some(who);
            }
            return;
        };
        match producer.current {
            None => {
                self.transactions += 1;
                producer.current = Some((self.transactions, !self.random.one_in(3)));
            }
            Some((number, _)) if !producer.ending && self.random.below(3) < 2 => {
                self.write(producer, who, number);
            }
            Some((number, commit)) => self.end(producer, who, number, commit),
        }
    }

    fn write(&mut self, producer: &mut Producer, who: (ProducerId, i16), number: u64) {
        let index = self.random.below(3) as usize;
        let ((id, epoch), version) = (who, producer.version);
        let (name, partitions) = (ID.to_owned(), one(index));
        let add = AddPartitions { id: name.clone(), producer: id, epoch, partitions, version };
        let added = self.ask(TransactionCommand::Add(add));
        if added == Some(TransactionReply::Added(ErrorCode::ProducerFenced)) {
            return producer.start_anew();
        }
        let allowed = match version {
            TransactionVersion::V2 => added == Some(TransactionReply::Added(ErrorCode::None)),
            // The partition asks, whatever the producer believes.
            TransactionVersion::V1 => {
                let partitions = one(index);
                let verify = VerifyPartitions { id: name, producer: id, epoch, partitions };
                let reply = self.bench.ask(TransactionCommand::Verify(verify));
                reply == TransactionReply::Verified(Ok(BTreeMap::new()))
            }
        };
        if allowed && self.partitions[index].write(who, number) {
            self.written.entry(number).or_default().insert(index);
        }
    }

    fn end(
        &mut self,
        producer: &mut Producer,
        (id, epoch): (ProducerId, i16),
        number: u64,
        commit: bool,
    ) {
        let result = if commit { TransactionResult::Commit } else { TransactionResult::Abort };
        producer.ending = true;
        let (name, version, fresh) = (ID.to_owned(), producer.version, self.fresh());
        let end = EndTransaction { id: name, producer: id, epoch, result, version, fresh };
        match self.ask(TransactionCommand::End(end)) {
            Some(TransactionReply::Producer(Ok(who))) => {
                self.told.insert(number, result);
                (producer.who, producer.current, producer.ending) = (Some(who), None, false);
            }
            Some(TransactionReply::Producer(Err(ErrorCode::ConcurrentTransactions))) | None => (),
            // Whatever became of it: the producer does not know.
            Some(_) => producer.start_anew(),
        }
    }

    /// Some or all partitions of the oldest order get their markers; when all have, the coordinator is told.
    fn deliver(&mut self, always: bool) {
        let Some(order) = self.bench.orders.first().cloned() else { return };
        let indexes: Vec<i32> = order.partitions.values().flatten().copied().collect();
        let whole = always || !self.random.one_in(3);
        let some = self.random.below(indexes.len() as u64) as usize;
        for index in &indexes[..if whole { indexes.len() } else { some }] {
            self.partitions[*index as usize].mark(&order);
        }
        if whole {
            self.bench.orders.remove(0);
            let MarkersOrder { id, producer, epoch, .. } = order;
            self.bench.ask(TransactionCommand::MarkersWritten { id, producer, epoch });
        }
    }

    fn judge(&self, seed: u64) {
        for partition in &self.partitions {
            assert!(partition.open.is_empty(), "seed {seed}: a transaction hangs");
        }
        for (number, indexes) in &self.written {
            let end = |index: &usize| self.partitions[*index].ended[number];
            let first = end(indexes.first().expect("it was written somewhere"));
            assert!(indexes.iter().all(|it| end(it) == first), "seed {seed}: {number} is torn");
            let told = self.told.get(number);
            assert!(told.is_none_or(|it| *it == first), "seed {seed}: {number} was told {told:?}");
        }
    }
}

fn simulate(seed: u64) -> usize {
    let mut random = Random(seed.wrapping_mul(2) | 1);
    let count = 1 + random.below(3);
    let version = |one: bool| if one { TransactionVersion::V1 } else { TransactionVersion::V2 };
    let producers = (0..count).map(|_| version(random.one_in(2)));
    let producers =
        producers.map(|version| Producer { version, who: None, current: None, ending: false });
    let mut producers: Vec<Producer> = producers.collect();
    let mut world = World {
        random,
        bench: Bench::new(),
        partitions: Default::default(),
        written: BTreeMap::new(),
        told: BTreeMap::new(),
        transactions: 0,
    };
    for _ in 0..400 {
        let index = world.random.below(count) as usize;
        match world.random.below(40) {
            0 => world.bench.restart(),
            1 => producers[index].start_anew(), // It crashed, and does not remember.
            2 => {
                let ms = world.random.below(90_000);
                world.bench.wait(ms);
            }
            3..=12 => world.deliver(false),
            _ => world.act(&mut producers[index]),
        }
    }
    for _ in 0..3 {
        world.bench.wait(120_000);
        while !world.bench.orders.is_empty() {
            world.deliver(true);
        }
    }
    world.judge(seed);
    world.told.len()
}

#[test]
fn no_transaction_is_torn_and_none_hangs() {
    match std::env::var("SIM_SEED") {
        Ok(seed) => drop(simulate(seed.parse().expect("SIM_SEED is a number"))),
        Err(_) => {
            let told: usize = (0..400).map(simulate).sum();
            assert!(4_000 < told, "{told}: the simulation commits and aborts");
        }
    }
}
