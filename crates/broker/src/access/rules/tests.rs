//! Tables for the rules, and a naive reading of them to compare with.

use proptest::prelude::*;

use super::*;

const HERE: &str = "10.0.0.1";

fn asker<'a>(principal: &'a str, host: &str) -> Asker<'a> {
    Asker { principal, host: host.parse().expect("an address") }
}

fn acl(
    permission: AclPermission,
    principal: &str,
    operation: AclOperation,
    (pattern, name): (AclPattern, &str),
) -> Acl {
    Acl {
        resource: AclResource::Topic,
        pattern,
        name: name.to_owned(),
        principal: principal.to_owned(),
        host: "*".to_owned(),
        operation,
        permission,
    }
}

fn rules(acls: &[Acl], super_users: &[&str], allow_everyone: bool) -> AclRules {
    let acls: Vec<Arc<Acl>> = acls.iter().cloned().map(Arc::new).collect();
    let super_users = super_users.iter().map(|it| (*it).to_owned()).collect();
    AclRules::new(0, &acls, Arc::new(super_users), allow_everyone)
}

#[track_caller]
fn check(rules: &AclRules, principal: &str, operation: AclOperation, topic: &str, allowed: bool) {
    let found = rules.operations(asker(principal, HERE), AclResource::Topic, topic);
    assert_eq!(found.contains(operation), allowed, "{principal} {operation:?} {topic}");
}

use AclOperation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
use AclPattern::{Literal, Prefixed};
use AclPermission::{Allow, Deny};

#[test]
fn nothing_said_is_nothing_allowed_unless_everyone_may() {
    check(&rules(&[], &[], false), "User:a", Read, "t", false);
    check(&rules(&[], &[], true), "User:a", Read, "t", true);
    // One ACL, be it for somebody else, and the resource is not everybody's any more.
    let taken = rules(&[acl(Allow, "User:b", Read, (Literal, "t"))], &[], true);
    check(&taken, "User:a", Read, "t", false);
    check(&taken, "User:a", Read, "other", true);
}

#[test]
fn super_users_pass_whatever_is_denied() {
    let rules = rules(&[acl(Deny, "User:*", All, (Literal, "*"))], &["User:root"], false);
    check(&rules, "User:root", Write, "t", true);
    check(&rules, "User:other", Write, "t", false);
    check(&rules, "Group:root", Write, "t", false);
}

#[test]
fn a_denial_outweighs_wherever_it_is_said() {
    for denial in [(Literal, "t1"), (Literal, "*"), (Prefixed, "t")] {
        let acls =
            [acl(Allow, "User:a", Write, (Literal, "t1")), acl(Deny, "User:*", Write, denial)];
        check(&rules(&acls, &[], false), "User:a", Write, "t1", false);
        check(&rules(&acls, &[], false), "User:a", Describe, "t1", true);
    }
    let all = [acl(Allow, "User:a", All, (Literal, "t")), acl(Deny, "User:a", All, (Literal, "t"))];
    check(&rules(&all, &[], true), "User:a", Read, "t", false);
}

#[test]
fn allowing_implies_describing_and_denying_does_not() {
    for operation in [Read, Write, Delete, Alter] {
        let rules = rules(&[acl(Allow, "User:a", operation, (Literal, "t"))], &[], false);
        check(&rules, "User:a", Describe, "t", true);
        check(&rules, "User:a", DescribeConfigs, "t", false);
    }
    let configs = rules(&[acl(Allow, "User:a", AlterConfigs, (Literal, "t"))], &[], false);
    check(&configs, "User:a", DescribeConfigs, "t", true);
    check(&configs, "User:a", Describe, "t", false);
    let denied =
        [acl(Allow, "User:a", Describe, (Literal, "t")), acl(Deny, "User:a", Read, (Literal, "t"))];
    check(&rules(&denied, &[], false), "User:a", Describe, "t", true);
}

#[test]
fn prefixes_cover_what_begins_so() {
    let acls = [
        acl(Allow, "User:a", Read, (Prefixed, "a")),
        acl(Allow, "User:a", Write, (Prefixed, "abc")),
        acl(Allow, "User:a", Alter, (Prefixed, "é")),
    ];
    let rules = rules(&acls, &[], false);
    check(&rules, "User:a", Read, "a", true);
    check(&rules, "User:a", Read, "ab", true);
    check(&rules, "User:a", Write, "ab", false);
    check(&rules, "User:a", Write, "abcd", true);
    check(&rules, "User:a", Read, "b", false);
    // Two bytes of another character are no prefix.
    check(&rules, "User:a", Alter, "éa", true);
    check(&rules, "User:a", Alter, "日本", false);
}

#[test]
fn hosts_are_addresses_however_they_are_written() {
    let from =
        |host: &str| Acl { host: host.to_owned(), ..acl(Allow, "User:a", Read, (Literal, "t")) };
    let may = |acl_host: &str, host: &str| {
        let rules = rules(&[from(acl_host)], &[], true);
        rules.operations(asker("User:a", host), AclResource::Topic, "t").contains(Read)
    };
    assert!(may("*", HERE) && may(HERE, HERE) && may("::1", "::1"));
    assert!(may("0:0:0:0:0:0:0:1", "::1"), "as Java writes it");
    assert!(!may("10.0.0.2", HERE));
    assert!(!may("a.host", HERE), "names are not looked up, and the resource has an ACL");
}

#[test]
fn any_topic_is_found_behind_denials() {
    let may = |acls: &[Acl]| {
        rules(acls, &[], false).allows_any(asker("User:a", HERE), Write, AclResource::Topic)
    };
    let allow = |pattern, name| acl(Allow, "User:a", Write, (pattern, name));
    let deny = |pattern, name| acl(Deny, "User:a", Write, (pattern, name));
    assert!(!may(&[]));
    assert!(may(&[allow(Literal, "t")]));
    assert!(may(&[allow(Literal, "*")]));
    assert!(may(&[allow(Prefixed, "t")]));
    assert!(!may(&[allow(Literal, "*"), deny(Literal, "*")]));
    assert!(!may(&[allow(Literal, "t"), deny(Literal, "t")]));
    assert!(!may(&[allow(Literal, "tt"), deny(Prefixed, "t")]));
    assert!(!may(&[allow(Prefixed, "tt"), deny(Prefixed, "tt")]));
    assert!(may(&[allow(Prefixed, "t"), deny(Prefixed, "tt")]));
    assert!(may(&[allow(Prefixed, "t"), deny(Literal, "t")]));
    assert!(rules(&[], &["User:a"], false).allows_any(
        asker("User:a", HERE),
        Write,
        AclResource::Topic
    ));
    assert!(rules(&[], &[], true).allows_any(asker("User:a", HERE), Write, AclResource::Topic));
}

/// The same rules read one ACL after another.
fn naive(acls: &[Acl], asked: Asker<'_>, operation: AclOperation, name: &str) -> Option<bool> {
    let covers = |it: &&Acl| match it.pattern {
        Literal => it.name == name || it.name == "*",
        Prefixed => name.starts_with(&it.name),
    };
    let of_resource: Vec<&Acl> =
        acls.iter().filter(|it| it.resource == AclResource::Topic).filter(covers).collect();
    if of_resource.is_empty() {
        return None;
    }
    let mut allowed = false;
    for it in of_resource {
        let is_named = it.principal == asked.principal || it.principal == "User:*";
        let is_here = it.host == "*" || it.host == asked.host.to_string();
        if !is_named || !is_here {
            continue;
        }
        let is_implied = it.permission == Allow
            && match operation {
                Describe => matches!(it.operation, Read | Write | Delete | Alter),
                DescribeConfigs => it.operation == AlterConfigs,
                _ => false,
            };
        if it.operation != All && it.operation != operation && !is_implied {
            continue;
        }
        match it.permission {
            Deny => return Some(false),
            Allow => allowed = true,
        }
    }
    Some(allowed)
}

/// Kafka's `Authorizer.authorizeByResourceType`, read one ACL after another.
fn naive_any(acls: &[Acl], asked: Asker<'_>, operation: AclOperation) -> bool {
    if naive(acls, asked, operation, ANY_NAME) == Some(true) {
        return true;
    }
    let counts = |it: &&Acl| {
        it.resource == AclResource::Topic
            && (it.principal == asked.principal || it.principal == "User:*")
            && (it.host == "*" || it.host == asked.host.to_string())
            && (it.operation == All || it.operation == operation)
    };
    let of = |permission| -> Vec<&Acl> {
        acls.iter().filter(counts).filter(|it| it.permission == permission).collect()
    };
    let (allows, denials) = (of(Allow), of(Deny));
    if denials.iter().any(|it| it.pattern == Literal && it.name == "*") {
        return false;
    }
    if allows.iter().any(|it| it.pattern == Literal && it.name == "*") {
        return true;
    }
    allows.iter().any(|allow| {
        !denials.iter().any(|denial| match denial.pattern {
            Literal => allow.pattern == Literal && denial.name == allow.name,
            Prefixed => allow.name.starts_with(&denial.name),
        })
    })
}

fn any_acl() -> impl Strategy<Value = Acl> {
    let resource = prop_oneof![8 => Just(AclResource::Topic), 1 => Just(AclResource::Group)];
    let named = prop_oneof![
        (
            Just(Literal),
            prop_oneof![Just("*"), Just("a"), Just("ab"), Just("abc"), Just("hardcode")]
        ),
        (Just(Prefixed), prop_oneof![Just("a"), Just("ab"), Just("abc"), Just("h"), Just("é")]),
    ];
    let principal = prop_oneof![Just("User:*"), Just("User:a"), Just("User:b"), Just("Role:a")];
    let host = prop_oneof![Just("*"), Just(HERE), Just("10.0.0.2")];
    let operation = proptest::sample::select(&AclOperation::ALL[..]);
    let permission = prop_oneof![2 => Just(Allow), 1 => Just(Deny)];
    (resource, named, principal, host, operation, permission).prop_map(
        |(resource, (pattern, name), principal, host, operation, permission)| Acl {
            resource,
            pattern,
            name: name.to_owned(),
            principal: principal.to_owned(),
            host: host.to_owned(),
            operation,
            permission,
        },
    )
}

proptest! {
    #[test]
    fn rules_answer_as_a_naive_reading_does(
        acls in prop::collection::vec(any_acl(), 0..12),
        principal in prop_oneof![Just("User:a"), Just("User:b"), Just("User:c"), Just("Role:a")],
        host in prop_oneof![Just(HERE), Just("10.0.0.2"), Just("10.0.0.3")],
        name in prop_oneof![Just("a"), Just("ab"), Just("abcd"), Just("b"), Just("é"), Just("*")],
        allow_everyone: bool,
    ) {
        let rules = rules(&acls, &[], allow_everyone);
        let asked = asker(principal, host);
        let found = rules.operations(asked, AclResource::Topic, name);
        for operation in AclOperation::ALL.into_iter().filter(|it| *it != All) {
            let expected = naive(&acls, asked, operation, name).unwrap_or(allow_everyone);
            prop_assert_eq!(found.contains(operation), expected, "{:?}", operation);
        }
        let everyone = naive(&acls, asked, Write, ANY_NAME).is_none() && allow_everyone;
        let expected = everyone || naive_any(&acls, asked, Write);
        prop_assert_eq!(rules.allows_any(asked, Write, AclResource::Topic), expected);
    }
}

/// A change of ACLs: one that is there goes, one that is not comes.
fn flipped(there: &mut BTreeSet<Acl>, acl: &Acl) -> AclChange {
    match there.remove(acl) {
        true => AclChange::Deleted(Arc::new(acl.clone())),
        false => {
            there.insert(acl.clone());
            AclChange::Created(Arc::new(acl.clone()))
        }
    }
}

/// Every decision there is among the names, principals and hosts of [`any_acl`], and some that no ACL knows.
fn decisions(rules: &AclRules) -> Vec<(Operations, bool)> {
    let mut found = Vec::new();
    for principal in ["User:a", "User:b", "User:c"] {
        for host in [HERE, "10.0.0.2", "10.0.0.3"] {
            let asked = asker(principal, host);
            for resource in [AclResource::Topic, AclResource::Group] {
                let any = rules.allows_any(asked, Write, resource);
                for name in ["a", "ab", "abcd", "b", "é", "*"] {
                    found.push((rules.operations(asked, resource, name), any));
                }
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn changed_rules_decide_as_those_made_from_scratch(
        acls in prop::collection::vec((any_acl(), any::<bool>()), 0..40),
        batch in 1..5usize,
        allow_everyone: bool,
    ) {
        // Few distinct ones, so that they come and go; some by the other spelling of an address.
        let mut pool: Vec<Acl> = Vec::new();
        let mut there = BTreeSet::new();
        let mut rules = rules(&[], &["User:c"], allow_everyone);
        let mut before: Option<(AclRules, Vec<(Operations, bool)>)> = None;
        for (number, acls) in acls.chunks(batch).enumerate() {
            let mut changes = Vec::new();
            for (acl, again) in acls {
                let mut acl = acl.clone();
                if *again && let Some(known) = pool.get(number % pool.len().max(1)) {
                    acl = known.clone();
                }
                if acl.host == "10.0.0.2" && *again {
                    acl.host = "::ffff:10.0.0.2".to_owned();
                } else if number % 7 == 6 {
                    acl.host = "a.host".to_owned();
                }
                pool.push(acl.clone());
                changes.push(flipped(&mut there, &acl));
            }
            let changed = rules.changed(number as u64, &changes);
            prop_assert_eq!(changed.generation(), number as u64);
            let acls: Vec<Acl> = there.iter().cloned().collect();
            let made = self::rules(&acls, &["User:c"], allow_everyone);
            prop_assert_eq!(decisions(&changed), decisions(&made));
            for (changed, made) in changed.kinds.iter().zip(&made.kinds) {
                prop_assert_eq!(&changed.prefix_lengths, &made.prefix_lengths);
            }
            // Whoever has the rules before goes on by them.
            if let Some((rules, decided)) = before.replace((changed.clone(), decisions(&changed))) {
                prop_assert_eq!(decisions(&rules), decided);
            }
            rules = changed;
        }
        // All goes, and nothing is left.
        let gone: Vec<Acl> = there.iter().cloned().collect();
        let changes: Vec<AclChange> = gone.iter().map(|it| flipped(&mut there, it)).collect();
        let emptied = rules.changed(0, &changes);
        for kind in &emptied.kinds {
            let lengths = kind.prefix_lengths.len();
            prop_assert!(kind.literal.is_empty() && kind.prefixed.is_empty() && lengths == 0);
        }
    }
}

/// `cargo test -p broker --release -- --ignored --nocapture what_rules_cost` prints it.
#[test]
#[ignore = "it measures and asserts nothing of it"]
fn what_rules_cost() {
    const CHANGES: usize = 1000;
    let clock = environment::Environment::system().clock;
    let numbered = |number: usize| {
        let (pattern, name) = match number % 5 {
            0 => (Prefixed, format!("prefix-{number}-")),
            _ => (Literal, format!("topic-{}", number / 3)),
        };
        acl(
            Allow,
            &format!("User:{}", number % 1000),
            AclOperation::ALL[number % 14],
            (pattern, &name),
        )
    };
    for count in [1_000, 100_000] {
        let acls: Vec<Acl> = (0..count).map(numbered).collect();
        let begun = clock.now();
        let made = rules(&acls, &[], false);
        let making = clock.now().since(begun);
        let everybody = |number: usize| {
            AclChange::Created(Arc::new(acl(
                Allow,
                &format!("User:{number}"),
                Read,
                (Literal, "*"),
            )))
        };
        let begun = clock.now();
        let mut changed = made.clone();
        for number in 0..CHANGES {
            changed = changed.changed(number as u64, &[everybody(number)]);
        }
        let changing = clock.now().since(begun) / CHANGES as u32;
        let begun = clock.now();
        let mut allowed = 0;
        for number in 0..CHANGES {
            let principal = format!("User:{}", number % 1000);
            let found = changed.operations(
                asker(&principal, HERE),
                AclResource::Topic,
                &format!("topic-{number}"),
            );
            allowed += usize::from(found.contains(Read));
        }
        let asking = clock.now().since(begun) / CHANGES as u32;
        println!(
            "{count} ACLs: made in {making:?}, a change {changing:?}, a question {asking:?} ({allowed} allowed)"
        );
    }
}
