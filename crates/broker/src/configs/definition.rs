//! What one config is: its type, default, rule, and what setting it changes here.
//!
//! Owns: [`Definition`], parsing one value, the wording of a refusal (Kafka's `ConfigException`).
//! Does not own: which configs exist (`catalogue`), where values come from (`layers`).
//!
//! A value that parses prints back in Kafka's canonical form, so describing a config shows the same
//! text whichever way it was spelled.

use std::fmt;

use super::group_config::ShareReset;

/// Kafka's `ConfigDef.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// The number DescribeConfigs v3 and later answers with.
    pub(crate) fn wire_code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }

    fn range(self) -> (i64, i64) {
        match self {
            Kind::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Kind::Short => (i64::from(i16::MIN), i64::from(i16::MAX)),
            _ => (i64::MIN, i64::MAX),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_lowercase())
    }
}

/// What a parsed value must also satisfy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    DecimalBetween(f64, f64),
    /// Kafka's gzip levels: -1, or 1 to 9.
    GzipLevel,
    OneOf(&'static [&'static str]),
    /// A list whose members are of these, without repetition.
    ListOf(&'static [&'static str]),
    /// `*`, nothing, or `partition:broker` pairs.
    ThrottledReplicas,
    NotEmpty,
    /// `earliest`, `latest`, or `by_duration:` with a duration as of ISO 8601 that is not negative.
    ShareReset,
}

/// Who may change it, and when it takes effect. Kafka's `DYNAMIC_BROKER_CONFIG` update modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// Read at start-up only.
    ReadOnly,
    /// For one broker or as the cluster's default, while it runs.
    ClusterWide,
    /// For one broker, while it runs: what it speaks of differs from broker to broker.
    PerBroker,
}

/// What a setting changes in Aquifer: never silence about a setting that does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Applied,
    /// Accepted, kept and echoed; the reason says why it changes nothing.
    Ignored(&'static str),
    /// Only the default is accepted, because pretending would be unsafe.
    Refused(&'static str),
}

/// One entry of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// `None` is Kafka's null: not set, and not the same as empty.
    pub(crate) default: Option<&'static str>,
    pub(crate) rule: Rule,
    /// One or two sentences, with the unit where there is one.
    pub(crate) doc: &'static str,
    pub(crate) sensitive: bool,
    pub(crate) update: Update,
    pub(crate) effect: Effect,
}

impl Definition {
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        doc: &'static str,
    ) -> Definition {
        Definition {
            name,
            kind,
            default,
            rule: Rule::Any,
            doc,
            sensitive: matches!(kind, Kind::Password),
            update: Update::ReadOnly,
            effect: Effect::Applied,
        }
    }

    pub(super) const fn rule(mut self, rule: Rule) -> Definition {
        self.rule = rule;
        self
    }

    pub(super) const fn dynamic(mut self) -> Definition {
        self.update = Update::ClusterWide;
        self
    }

    pub(super) const fn of_each_broker(mut self) -> Definition {
        self.update = Update::PerBroker;
        self
    }

    pub(super) const fn no_effect(mut self, reason: &'static str) -> Definition {
        self.effect = Effect::Ignored(reason);
        self
    }

    pub(super) const fn refused(mut self, reason: &'static str) -> Definition {
        self.effect = Effect::Refused(reason);
        self
    }

    /// Parses and checks one value, worded as Kafka's `ConfigException` is.
    pub(crate) fn parse(&self, text: &str) -> Result<Value, ConfigProblem> {
        let text = text.trim();
        let value = self.parse_kind(text)?;
        self.check_rule(&value, text)?;
        Ok(value)
    }

    /// The default, parsed. `None` when the default is null. The catalogue's test proves every one.
    pub(crate) fn default_value(&self) -> Option<Value> {
        self.default.map(|text| self.parse(text).expect("a test parses every default"))
    }

    fn refuse(&self, text: &str, reason: impl fmt::Display) -> ConfigProblem {
        ConfigProblem(if self.sensitive {
            format!("Invalid value for configuration {}: {reason}", self.name)
        } else {
            format!("Invalid value {text} for configuration {}: {reason}", self.name)
        })
    }

    fn parse_kind(&self, text: &str) -> Result<Value, ConfigProblem> {
        match self.kind {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            Kind::Boolean => Err(self.refuse(text, "Expected value to be either true or false")),
            Kind::String | Kind::Class | Kind::Password => Ok(Value::Text(text.to_owned())),
            Kind::Int | Kind::Short | Kind::Long => {
                let (low, high) = self.kind.range();
                let number = text.parse::<i64>().ok();
                number.filter(|it| (low..=high).contains(it)).map(Value::Integer).ok_or_else(|| {
                    self.refuse(text, format_args!("Not a number of type {}", self.kind.name()))
                })
            }
            Kind::Double => {
                let number = text.parse::<f64>().ok().filter(|it| it.is_finite());
                number.map(Value::Decimal).ok_or_else(|| {
                    self.refuse(text, format_args!("Not a number of type {}", self.kind.name()))
                })
            }
            Kind::List if text.is_empty() => Ok(Value::List(Vec::new())),
            Kind::List => Ok(Value::List(text.split(',').map(|it| it.trim().to_owned()).collect())),
        }
    }

    fn check_rule(&self, value: &Value, text: &str) -> Result<(), ConfigProblem> {
        match (self.rule, value) {
            (Rule::AtLeast(low), Value::Integer(number)) if *number < low => {
                Err(self.refuse(text, format_args!("Value must be at least {low}")))
            }
            (Rule::Between(low, _), Value::Integer(number)) if *number < low => {
                Err(self.refuse(text, format_args!("Value must be at least {low}")))
            }
            (Rule::Between(_, high), Value::Integer(number)) if high < *number => {
                Err(self.refuse(text, format_args!("Value must be no more than {high}")))
            }
            (Rule::DecimalBetween(low, _), Value::Decimal(number)) if *number < low => {
                Err(self.refuse(text, format_args!("Value must be at least {low}")))
            }
            (Rule::DecimalBetween(_, high), Value::Decimal(number)) if high < *number => {
                Err(self.refuse(text, format_args!("Value must be no more than {high}")))
            }
            (Rule::GzipLevel, Value::Integer(level)) if !matches!(level, -1 | 1..=9) => {
                Err(self.refuse(text, "Value must be between 1 and 9 or equal to -1"))
            }
            (Rule::OneOf(allowed), Value::Text(word)) if !allowed.contains(&word.as_str()) => {
                let allowed = allowed.join(", ");
                Err(self.refuse(text, format_args!("String must be one of: {allowed}")))
            }
            (Rule::ListOf(allowed), Value::List(members)) => self.check_members(members, allowed),
            (Rule::ThrottledReplicas, Value::List(members)) => {
                let pair = |it: &String| {
                    it.split_once(':').is_some_and(|(partition, broker)| {
                        partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
                    })
                };
                let fine =
                    matches!(&members[..], [star] if star == "*") || members.iter().all(pair);
                fine.then_some(()).ok_or_else(|| {
                    self.refuse(
                        text,
                        "must be the literal '*' or a list of replicas in the format \
                         [partitionId]:[brokerId],...",
                    )
                })
            }
            (Rule::ShareReset, Value::Text(word)) if ShareReset::parse(word).is_none() => Err(self
                .refuse(
                    text,
                    format_args!(
                        "Invalid value `{word}` for configuration {}. The value must be either \
                         'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS.>'.",
                        self.name
                    ),
                )),
            (Rule::NotEmpty, Value::Text(word)) if word.is_empty() => {
                Err(self.refuse(text, "String must be non-empty"))
            }
            _ => Ok(()),
        }
    }

    fn check_members(&self, members: &[String], allowed: &[&str]) -> Result<(), ConfigProblem> {
        // A value that comes twice is none the worse for it: Kafka takes that, too.
        for member in members {
            if member.is_empty() {
                return Err(ConfigProblem(format!(
                    "Configuration '{}' values must not be empty.",
                    self.name
                )));
            }
            if !allowed.contains(&member.as_str()) {
                let allowed = allowed.join(", ");
                return Err(self.refuse(member, format_args!("String must be one of: {allowed}")));
            }
        }
        Ok(())
    }
}

/// Why a config was refused, in words for whoever set it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigProblem(pub(crate) String);

/// A parsed value. Prints in Kafka's canonical form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Boolean(bool),
    /// Int, short and long.
    Integer(i64),
    Decimal(f64),
    /// String, class and password.
    Text(String),
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Integer(value) => write!(f, "{value}"),
            // Java prints 1.0 for one, as Rust's debug form does.
            Value::Decimal(value) => write!(f, "{value:?}"),
            Value::Text(value) => f.write_str(value),
            Value::List(members) => f.write_str(&members.join(",")),
        }
    }
}
