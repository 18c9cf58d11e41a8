//! Golden bytes: what is stored today must be readable for ever.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn partition() -> Partition {
    Partition { topic: TopicId([0xaa; 16]), index: 2 }
}

#[test]
fn golden_run() {
    let run_value = Run {
        partition: partition(),
        leader_epoch: LeaderEpoch(3),
        base: Offset(10),
        end: Offset(20),
        max_timestamp: Timestamp(1000),
        segment: SegmentName::data(0xbeef),
        position: 64,
        length: 128,
        crc: 0xdead,
    };
    let bytes = encode_run(&run_value);
    assert_eq!(
        hex(&bytes),
        "0100000003000000000000000a00000000000003e80000000000000000000000000000beef\
         000000000000004000000000000000800000dead"
    );
    assert_eq!(run(&keys::run(partition(), Offset(20)), &bytes), Ok(run_value));
}

#[test]
fn golden_run_in_a_wal_segment() {
    let segment =
        SegmentName::Wal { broker: BrokerId(7), epoch: BrokerEpoch(0x11), sequence: 0x22 };
    let in_wal = Run {
        partition: partition(),
        leader_epoch: LeaderEpoch(3),
        base: Offset(10),
        end: Offset(20),
        max_timestamp: Timestamp(1000),
        segment,
        position: 64,
        length: 128,
        crc: 0xdead,
    };
    let bytes = encode_run(&in_wal);
    assert_eq!(
        hex(&bytes),
        "0200000003000000000000000a00000000000003e8000000070000000000000011000000000000002200000000\
         0000004000000000000000800000dead"
    );
    assert_eq!(run(&keys::run(partition(), Offset(20)), &bytes), Ok(in_wal));

    let of_segment = Segment { bytes: 5, created: Timestamp(6), live_runs: 1, garbage_since: None };
    let mut state = State::default();
    load(&mut state, &keys::segment(segment), &encode_segment(&of_segment)).expect("it is read");
    assert_eq!(state.segments.get(&segment), Some(&of_segment));
}

#[test]
fn golden_progress_segment_and_broker() {
    let progress = Progress {
        log_start: Offset(1),
        runs_start: Offset(0),
        committed_end: Offset(9),
        epochs: vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(4), Offset(5))],
        committed_bytes: 77,
        runs: 2,
        kept_as_of: None,
        replacements: 0,
    };
    let bytes = encode_progress(&progress);
    assert_eq!(
        hex(&bytes),
        "01000000000000000100000000000000000000000000000009000000000000004d00000000000000020000000200000000\
         0000000000000000000000040000000000000005"
    );
    assert_eq!(decode_progress(&mut Reader::of(&bytes)), Ok(progress));

    let segment = Segment {
        bytes: 5,
        created: Timestamp(6),
        live_runs: 0,
        garbage_since: Some(Timestamp(7)),
    };
    let bytes = encode_segment(&segment);
    assert_eq!(
        hex(&bytes),
        "01000000000000000500000000000000060000000001000000000000000 7".replace(' ', "")
    );
    assert_eq!(decode_segment(&mut Reader::value(&bytes).unwrap()), Ok(segment));

    let broker = Broker {
        id: BrokerId(1),
        epoch: BrokerEpoch(2),
        host: "h".into(),
        port: 9092,
        rack: Some("r".into()),
    };
    let bytes = encode_broker(&broker);
    assert_eq!(hex(&bytes), "0100000000000000020000000168000023840100000001 72".replace(' ', ""));
    assert_eq!(decode_broker(BrokerId(1), &mut Reader::value(&bytes).unwrap()), Ok(broker));
}

#[test]
fn golden_progress_with_kept_producers() {
    let mut progress = Progress {
        log_start: Offset(9),
        runs_start: Offset(9),
        committed_end: Offset(9),
        epochs: vec![(LeaderEpoch(4), Offset(5))],
        committed_bytes: 0,
        runs: 0,
        kept_as_of: Some(Offset(9)),
        replacements: 3,
    };
    let bytes = encode_progress(&progress);
    assert_eq!(
        hex(&bytes),
        "0200000000000000090000000000000009000000000000000900000000000000000000000000000000\
         000000010000000400000000000000050000000000000003010000000000000009"
    );
    assert_eq!(decode_progress(&mut Reader::of(&bytes)), Ok(progress.clone()));
    progress.kept_as_of = None;
    let bytes = encode_progress(&progress);
    assert_eq!(decode_progress(&mut Reader::of(&bytes)), Ok(progress), "only replacements");
    assert_eq!(decode_progress(&mut Reader::of(&[3])), Err(FormatError::Version(3)));
}

#[test]
fn golden_kept_producers() {
    let snapshot = Bytes::from_static(&[0xca, 0xfe]);
    let value = KeptProducers { partition: partition(), as_of: Offset(9), snapshot };
    let bytes = encode_kept(&value);
    assert_eq!(hex(&bytes), "010000000000000009cafe");
    assert_eq!(kept(partition(), &bytes), Ok(value));
    assert_eq!(kept(partition(), &bytes[..8]), Err(FormatError::Short));
    let key = format!("6b{}00000002", "aa".repeat(16));
    assert_eq!(hex(&keys::kept(partition())), key);
}

#[test]
fn golden_log() {
    let (broker, epoch) = (BrokerId(7), BrokerEpoch(0x11));
    let open = WalLog { broker, epoch, kind: WalKind::File, volume: None, trimmed: 5, fence: None };
    let named = WalLog { volume: Some(VolumeId(0xbeef)), ..open };
    let closed = WalLog { kind: WalKind::Bucket, fence: Some(9), ..open };
    for (log, golden) in [
        (open, "0100000000000000000500"),
        (closed, "01010000000000000005010000000000000009"),
        (named, "01020000000000000005000000000000000000000000000000beef"),
    ] {
        let bytes = encode_log(&log);
        assert_eq!(hex(&bytes), golden);
        let mut state = State::default();
        load(&mut state, &keys::log(broker, epoch), &bytes).expect("it is read");
        assert_eq!(state.logs.get(&(broker, epoch)), Some(&log));
        complete(&mut state);
        assert_eq!(state.broker_epoch_last, epoch, "A4: no epoch is given twice");
    }
    assert_eq!(hex(&keys::log(broker, epoch)), "6c000000070000000000000011");
    let unknown = decode_log(broker, epoch, &mut Reader::of(&[3]));
    assert_eq!(unknown, Err(FormatError::WalKind(3)));
}

#[test]
fn golden_topic() {
    let topic = Topic {
        id: TopicId([0xaa; 16]),
        name: "t".into(),
        is_internal: false,
        partitions: vec![PartitionInfo { leader: BrokerId(1), leader_epoch: LeaderEpoch(2) }],
        configs: BTreeMap::from([("a".into(), "b".into())]),
    };
    let bytes = encode_topic(&topic);
    assert_eq!(hex(&bytes), "010000000174000000000100000001610000000162000000010000000100000002");
    assert_eq!(decode_topic(topic.id, &mut Reader::value(&bytes).unwrap()), Ok(topic));
}

#[test]
fn golden_group_configs() {
    let configs = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let changed = |configs| Event::GroupConfigsChanged { group: "g/\u{e9}".to_owned(), configs };
    let written = writes(&State::default(), &changed(configs.clone()));
    let (key, value) = &written[0];
    assert_eq!(hex(key), "67672fc3a9");
    let value = value.as_deref().expect("it is set");
    assert_eq!(hex(value), "010000000100000001610000000162");
    let mut state = State::default();
    load(&mut state, key, value).expect("it is read");
    assert_eq!(state.group_configs, BTreeMap::from([("g/\u{e9}".to_owned(), configs.clone())]));
    let entry = decode(key, value);
    assert_eq!(entry, Ok(MetadataValue::GroupConfigs("g/\u{e9}".to_owned(), configs)));
    let removed = writes(&State::default(), &changed(BTreeMap::new()));
    assert_eq!(removed, [(key.clone(), None)], "nothing is kept of a group without configs");
}

#[test]
fn what_cannot_be_read_is_an_error_and_nothing_else() {
    let topic = Topic {
        id: TopicId([1; 16]),
        name: "name".into(),
        is_internal: true,
        partitions: vec![PartitionInfo { leader: BrokerId(1), leader_epoch: LeaderEpoch(2) }; 3],
        configs: BTreeMap::from([("a".into(), "b".into())]),
    };
    let bytes = encode_topic(&topic);
    let key = keys::topic(topic.id);
    let loaded = |value: &[u8]| load(&mut State::default(), &key, value);
    for length in 0..bytes.len() {
        assert!(loaded(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert_eq!(loaded(&[9, 0, 0]), Err(FormatError::Version(9)));
    let mut long = bytes.clone();
    long.push(0);
    assert_eq!(loaded(&long), Err(FormatError::Long(1)));
}

#[test]
fn golden_acl() {
    let acl = Acl {
        resource: AclResource::Topic,
        pattern: AclPattern::Prefixed,
        name: "t\u{e9}".to_owned(),
        principal: "User:a".to_owned(),
        host: "*".to_owned(),
        operation: AclOperation::DescribeConfigs,
        permission: AclPermission::Deny,
    };
    let key = keys::acl(&acl);
    assert_eq!(hex(&key), "6102040a020000000374c3a900000006557365723a61000000012a");
    let event = Event::AclCreated(Arc::new(acl.clone()));
    assert_eq!(writes(&State::default(), &event), [(key.clone(), Some(vec![1]))]);
    let event = Event::AclDeleted(Arc::new(acl.clone()));
    assert_eq!(writes(&State::default(), &event), [(key.clone(), None)]);
    let mut state = State::default();
    load(&mut state, &key, &[1]).expect("it is read");
    assert_eq!(state.acls, [Arc::new(acl.clone())].into_iter().collect());
    assert_eq!(decode(&key, &[1]), Ok(MetadataValue::Acl(acl)));
    // One that says more than is known here is not left out.
    let mut newer = key.clone();
    newer[3] = 99;
    assert_eq!(load(&mut state, &newer, &[1]), Err(FormatError::Acl));
    assert_eq!(load(&mut state, &key, &[2]), Err(FormatError::Version(2)));
}
