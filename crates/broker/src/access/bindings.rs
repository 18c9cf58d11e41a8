//! ACLs and filters as the wire has them: numbers become words, and what makes no sense is refused as by Kafka.

use cluster::{
    Acl, AclFilter, AclOperation, AclPattern, AclPermission, AclResource, PatternFilter,
};
use protocol::ErrorCode;
use protocol::messages::create_acls::request::AclCreation;

use super::CLUSTER_NAME;
use crate::refusal::Refusal;

/// The wire's number of "any", for filters, of every kind of thing.
const ANY: i8 = 1;

/// The wire's number of the patterns that cover a name.
const MATCH: i8 = 2;

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn known<T>(code: i8, find: impl Fn(u8) -> Option<T>) -> Option<T> {
    find(u8::try_from(code).ok()?)
}

/// An ACL to be created.
///
/// # Errors
/// INVALID_REQUEST for numbers that are no resource, pattern, operation or permission (those of filters among them), a
/// resource without a name, a cluster by another name than Kafka's, and a principal that is not `Type:name`.
pub(crate) fn acl(asked: AclCreation) -> Result<Acl, Refusal> {
    let refuse = |what: &str, code: i8| invalid(format!("Invalid {what} {code}"));
    let AclCreation { resource_type, resource_pattern_type, operation, permission_type, .. } =
        asked;
    let resource = known(resource_type, AclResource::from_code)
        .ok_or_else(|| refuse("resourceType", resource_type))?;
    let name = asked.resource_name;
    if resource == AclResource::Cluster && name != CLUSTER_NAME {
        return Err(invalid(format!(
            "The only valid name for the CLUSTER resource is {CLUSTER_NAME}"
        )));
    }
    if name.is_empty() {
        return Err(invalid("Invalid empty resource name"));
    }
    let pattern = known(resource_pattern_type, AclPattern::from_code)
        .ok_or_else(|| refuse("patternType", resource_pattern_type))?;
    let operation =
        known(operation, AclOperation::from_code).ok_or_else(|| refuse("operation", operation))?;
    let permission = known(permission_type, AclPermission::from_code)
        .ok_or_else(|| refuse("permissionType", permission_type))?;
    let principal = asked.principal;
    if !principal.contains(':') {
        return Err(invalid(format!(
            "Could not parse principal from `{principal}` (no colon is present separating the \
             principal type from the principal name)"
        )));
    }
    Ok(Acl { resource, pattern, name, principal, host: asked.host, operation, permission })
}

/// The fields of a filter, which two requests have under two types.
#[derive(Debug, Clone, Default)]
pub(crate) struct AskedFilter {
    pub(crate) resource_type: i8,
    pub(crate) name: Option<String>,
    pub(crate) pattern_type: i8,
    pub(crate) principal: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) operation: i8,
    pub(crate) permission_type: i8,
}

/// What to look for, or delete.
///
/// # Errors
/// INVALID_REQUEST for unknown numbers.
pub(crate) fn filter(asked: AskedFilter) -> Result<AclFilter, Refusal> {
    fn any_or<T>(
        code: i8,
        find: impl Fn(u8) -> Option<T>,
        unknown: &'static str,
    ) -> Result<Option<T>, Refusal> {
        match code {
            ANY => Ok(None),
            code => known(code, find).map(Some).ok_or_else(|| invalid(unknown)),
        }
    }
    const OF_PATTERN: &str = "Unknown patternFilter.";
    const OF_ENTRY: &str = "Unknown entryFilter.";
    Ok(AclFilter {
        resource: any_or(asked.resource_type, AclResource::from_code, OF_PATTERN)?,
        pattern: match asked.pattern_type {
            ANY => PatternFilter::Any,
            MATCH => PatternFilter::Match,
            code => PatternFilter::Only(
                known(code, AclPattern::from_code).ok_or_else(|| invalid(OF_PATTERN))?,
            ),
        },
        name: asked.name,
        principal: asked.principal,
        host: asked.host,
        operation: any_or(asked.operation, AclOperation::from_code, OF_ENTRY)?,
        permission: any_or(asked.permission_type, AclPermission::from_code, OF_ENTRY)?,
    })
}

/// A number as the wire has it: none is above 127.
pub(crate) fn wire(code: u8) -> i8 {
    i8::try_from(code).unwrap_or(i8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creation() -> AclCreation {
        AclCreation {
            resource_type: 2,
            resource_name: "t".to_owned(),
            resource_pattern_type: 3,
            principal: "User:a".to_owned(),
            host: "*".to_owned(),
            operation: 3,
            permission_type: 3,
        }
    }

    #[track_caller]
    fn refused(asked: AclCreation, words: &str) {
        let refusal = acl(asked).expect_err("it is refused");
        assert_eq!(refusal.code, ErrorCode::InvalidRequest);
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }

    #[test]
    fn an_acl_is_read_or_refused_in_kafkas_words() {
        let read = acl(creation()).expect("it is one");
        assert_eq!((read.resource, read.operation), (AclResource::Topic, AclOperation::Read));
        assert_eq!((read.pattern, read.permission), (AclPattern::Literal, AclPermission::Allow));
        for code in [-1, 0, 1, 8] {
            refused(AclCreation { resource_type: code, ..creation() }, "resourceType");
        }
        for code in [0, 1, 2, 5] {
            refused(AclCreation { resource_pattern_type: code, ..creation() }, "patternType");
        }
        for code in [0, 1, 16] {
            refused(AclCreation { operation: code, ..creation() }, "operation");
        }
        for code in [0, 1, 4] {
            refused(AclCreation { permission_type: code, ..creation() }, "permissionType");
        }
        refused(AclCreation { resource_name: String::new(), ..creation() }, "empty resource name");
        refused(AclCreation { resource_type: 4, ..creation() }, "kafka-cluster");
        refused(AclCreation { principal: "alice".to_owned(), ..creation() }, "no colon");
        let cluster = AclCreation {
            resource_type: 4,
            resource_name: "kafka-cluster".to_owned(),
            ..creation()
        };
        assert_eq!(acl(cluster).map(|it| it.resource), Ok(AclResource::Cluster));
    }

    #[test]
    fn filters_know_any_and_match() {
        let any = AskedFilter {
            resource_type: 1,
            pattern_type: 1,
            operation: 1,
            permission_type: 1,
            ..Default::default()
        };
        assert_eq!(filter(any.clone()), Ok(AclFilter::ALL));
        let matching = filter(AskedFilter { pattern_type: 2, ..any.clone() });
        assert_eq!(matching.map(|it| it.pattern), Ok(PatternFilter::Match));
        for bad in [
            AskedFilter { resource_type: 0, ..any.clone() },
            AskedFilter { pattern_type: 5, ..any.clone() },
            AskedFilter { operation: 99, ..any.clone() },
            AskedFilter { permission_type: -1, ..any.clone() },
        ] {
            assert_eq!(filter(bad).map_err(|it| it.code), Err(ErrorCode::InvalidRequest));
        }
    }
}
