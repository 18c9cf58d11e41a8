//! What becomes of ACLs, and which of them filters pick.

use super::*;
use proptest::prelude::*;

fn acl(name: &str, operation: AclOperation) -> Acl {
    Acl {
        resource: AclResource::Topic,
        pattern: AclPattern::Literal,
        name: name.to_owned(),
        principal: "User:a".to_owned(),
        host: "*".to_owned(),
        operation,
        permission: AclPermission::Allow,
    }
}

#[test]
fn an_acl_is_there_once_and_goes_with_a_filter_that_picks_it() {
    let mut state = State::default();
    let (read, write) = (acl("t", AclOperation::Read), acl("t", AclOperation::Write));
    let asked = vec![read.clone(), write.clone(), read.clone()];
    let (events, outcomes) = decide::create_acls(&state, asked.clone());
    assert_eq!((events.len(), outcomes), (2, vec![Ok(()); 3]));
    apply_all(&mut state, &events);
    let (events, outcomes) = decide::create_acls(&state, asked);
    assert_eq!((events, outcomes), (Vec::new(), vec![Ok(()); 3]), "no change, no commit");

    let reads = AclFilter { operation: Some(AclOperation::Read), ..AclFilter::ALL };
    let none = AclFilter { name: Some("x".to_owned()), ..AclFilter::ALL };
    let (events, picked) = decide::delete_acls(&state, &[reads, none, AclFilter::ALL]);
    let told: Vec<usize> = picked.iter().map(Vec::len).collect();
    assert_eq!((told, events.len()), (vec![1, 0, 2], 2), "each filter tells, each ACL goes once");
    apply_all(&mut state, &events);
    assert!(state.acls.is_empty());
}

#[test]
fn acls_are_bounded_in_number_and_length() {
    let mut state = State::default();
    let long = acl(&"x".repeat(decide::ACL_TEXT_BYTES_MAX), AclOperation::Read);
    let (events, outcomes) = decide::create_acls(&state, vec![long]);
    let max = decide::ACL_TEXT_BYTES_MAX;
    assert_eq!((events, outcomes), (Vec::new(), vec![Err(AclError::TooLong { max })]));

    let numbered = |number: usize| Arc::new(acl(&number.to_string(), AclOperation::Read));
    state.acls = (1..decide::ACLS_MAX).map(numbered).collect();
    let asked = vec![acl("a", AclOperation::Read), acl("b", AclOperation::Read)];
    let (events, outcomes) = decide::create_acls(&state, asked);
    let max = decide::ACLS_MAX;
    assert_eq!((events.len(), outcomes), (1, vec![Ok(()), Err(AclError::TooMany { max })]));
}

#[test]
fn filters_pick_by_pattern_as_kafka_does() {
    let named = |pattern, name: &str| Acl { pattern, ..acl(name, AclOperation::Read) };
    let acls = [
        named(AclPattern::Literal, "abc"),
        named(AclPattern::Literal, "*"),
        named(AclPattern::Prefixed, "ab"),
        named(AclPattern::Prefixed, "abc"),
        named(AclPattern::Prefixed, "b"),
    ];
    let picks = |pattern, name: Option<&str>| -> Vec<usize> {
        let filter = AclFilter { pattern, name: name.map(str::to_owned), ..AclFilter::ALL };
        (0..acls.len()).filter(|at| filter.picks(&acls[*at])).collect()
    };
    assert_eq!(picks(PatternFilter::Any, None), [0, 1, 2, 3, 4]);
    assert_eq!(picks(PatternFilter::Any, Some("abc")), [0, 3], "by the name it is written with");
    assert_eq!(picks(PatternFilter::Match, Some("abc")), [0, 1, 2, 3], "by what it covers");
    assert_eq!(picks(PatternFilter::Match, Some("*")), [1]);
    assert_eq!(picks(PatternFilter::Only(AclPattern::Literal), Some("abc")), [0]);
    assert_eq!(picks(PatternFilter::Only(AclPattern::Prefixed), Some("ab")), [2]);
    assert_eq!(picks(PatternFilter::Only(AclPattern::Prefixed), None), [2, 3, 4]);
    let other = AclFilter { principal: Some("User:b".to_owned()), ..AclFilter::ALL };
    assert!(acls.iter().all(|it| !other.picks(it)));
}

fn some_acl() -> impl Strategy<Value = Acl> {
    let resource = prop::sample::select(vec![AclResource::Topic, AclResource::Group]);
    let pattern = prop::sample::select(vec![AclPattern::Literal, AclPattern::Prefixed]);
    let name = prop::sample::select(vec!["", "a", "aa", "b", "*"]);
    let principal = prop::sample::select(vec!["User:*", "User:a"]);
    let operation = prop::sample::select(&AclOperation::ALL[..3]);
    (resource, pattern, name, principal, operation, any::<bool>()).prop_map(
        |(resource, pattern, name, principal, operation, denies)| Acl {
            resource,
            pattern,
            principal: principal.to_owned(),
            permission: if denies { AclPermission::Deny } else { AclPermission::Allow },
            ..acl(name, operation)
        },
    )
}

proptest! {
    // Goal: what a filter need not look at is nothing that it picks.
    #[test]
    fn a_narrow_filter_misses_nothing(
        acls in prop::collection::vec(some_acl(), 0..40),
        like in some_acl(),
        says in prop::collection::vec(any::<bool>(), 6),
        matches: bool,
    ) {
        let acls: BTreeSet<Arc<Acl>> = acls.into_iter().map(Arc::new).collect();
        let pattern = match (says[1], matches) {
            (true, _) => PatternFilter::Only(like.pattern),
            (false, true) => PatternFilter::Match,
            (false, false) => PatternFilter::Any,
        };
        let filter = AclFilter {
            resource: says[0].then_some(like.resource),
            pattern,
            name: says[2].then_some(like.name),
            principal: says[3].then_some(like.principal),
            host: None,
            operation: says[4].then_some(like.operation),
            permission: says[5].then_some(like.permission),
        };
        let picked: Vec<&Arc<Acl>> = filter.picked_of(&acls).collect();
        let all: Vec<&Arc<Acl>> = acls.iter().filter(|it| filter.picks(it)).collect();
        prop_assert_eq!(picked, all);
    }
}
