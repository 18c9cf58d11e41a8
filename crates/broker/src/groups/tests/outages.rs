//! What is answered while the metadata cannot be written: late, but answered, and nothing that waits behind it hangs.

use bucket::{Faults, LyingStore, StoreOptions};
use protocol::messages::{create_acls, delete_acls, init_producer_id};

use super::*;

/// What is answered within a minute.
async fn answered<T>(life: &Life, asked: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        answer = asked => answer,
        () = life.broker.environment.clock.sleep(Duration::from_secs(60)) => panic!("no answer"),
    }
}

#[tokio::test(start_paused = true)]
async fn changes_without_a_time_out_are_answered_while_the_metadata_hangs() {
    let environment = Environment::simulated(1);
    let memory = StoreBucket::memory(&environment);
    let liar = Arc::new(LyingStore::new(memory.object_store(), 1, Faults::NONE, &environment));
    let below = Arc::<LyingStore>::clone(&liar);
    let bucket = Arc::new(StoreBucket::new(below, StoreOptions::remote(), &environment));
    let machine = Machine { volume: MemoryVolume::new(&environment), bucket };
    let settings = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:ANONYMOUS"),
    ];
    let life = machine.start_with(&settings).await;
    liar.set_faults(Faults { failed_per_mille: 1000, ..Faults::NONE });

    let allowed = |key, version| {
        let access = life.broker.access();
        RequestContext { key, access, ..context(version) }
    };
    let creation = create_acls::request::AclCreation {
        resource_type: 2,
        resource_name: "t".to_owned(),
        resource_pattern_type: 3,
        principal: "User:a".to_owned(),
        host: "*".to_owned(),
        operation: 3,
        permission_type: 3,
    };
    let request = create_acls::Request { creations: vec![creation] };
    let asking = allowed(ApiKey::CreateAcls, 3);
    let created = handlers::create_acls::handle(&life.broker, &asking, request);
    let created = answered(&life, created).await;
    assert_eq!(created.results[0].error_code, ErrorCode::RequestTimedOut.code());
    let filter = delete_acls::request::DeleteAclsFilter {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    };
    let request = delete_acls::Request { filters: vec![filter] };
    let asking = allowed(ApiKey::DeleteAcls, 3);
    let deleted = handlers::delete_acls::handle(&life.broker, &asking, request);
    let deleted = answered(&life, deleted).await;
    assert_eq!(deleted.filter_results[0].error_code, ErrorCode::RequestTimedOut.code());
    let request = init_producer_id::Request {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        transaction_timeout_ms: 1000,
        ..Default::default()
    };
    let asking = allowed(ApiKey::InitProducerId, 5);
    let again = request.clone();
    let given = handlers::init_producer_id::handle(&life.broker, &asking, again);
    let given = answered(&life, given).await;
    assert_eq!(given.error_code, ErrorCode::CoordinatorLoadInProgress.code());

    liar.set_faults(Faults::NONE);
    for _ in 0..30 {
        life.broker.environment.clock.sleep(Duration::from_secs(1)).await;
    }
    let given = handlers::init_producer_id::handle(&life.broker, &asking, request).await;
    assert_eq!(given.error_code, 0);
    life.stop().await;
}
