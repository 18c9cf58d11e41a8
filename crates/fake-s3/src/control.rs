//! `/_fake-s3/…`: looking at and changing a server that runs as a process of its own.
//!
//! - `GET  /_fake-s3/counts` the counts as text;
//! - `POST /_fake-s3/faults?<faults>` sets the faults, written as on the command line;
//! - `POST /_fake-s3/delays?<preset>` sets the delays;
//! - `POST /_fake-s3/outage?on` and `?off`.
//!
//! A bucket cannot have this name: S3's begin with a letter or a digit. These requests are not counted,
//! not delayed and meet no faults but an outage, which is why one can be ended only from inside or by
//! [`crate::FakeS3::outage`]: `outage?for-ms=<number>` ends by itself.

use std::time::Duration;

use environment::TaskKind;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::answer::{Answer, AnswerBody, Sent};
use crate::delays::Delays;
use crate::request::decoded;
use crate::server::Shared;

const PREFIX: &str = "/_fake-s3/";

pub(crate) fn is_control(head: &Parts) -> bool {
    head.uri.path().starts_with(PREFIX)
}

pub(crate) fn answer(shared: &Shared, head: &Parts) -> Response<AnswerBody> {
    let (status, text) = match act(shared, head) {
        Ok(text) => (StatusCode::OK, text),
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let answer = Answer { body: Sent::Text(text), ..Answer::empty(status) };
    answer.into_response(&head.method, &shared.actions.environment.tasks, None)
}

fn act(shared: &Shared, head: &Parts) -> Result<String, String> {
    let query = head.uri.query().unwrap_or_default();
    let query = decoded(query, false).map_err(|refusal| refusal.message)?;
    let page = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    match (&head.method, page) {
        (&Method::GET, "counts") => return Ok(shared.counts().to_string()),
        (&Method::POST, "faults") => shared.set_faults(query.parse()?),
        (&Method::POST, "delays") => {
            let delays = Delays::named(&query);
            shared.set_delays(delays.ok_or_else(|| format!("{query} is no preset of delays"))?);
        }
        (&Method::POST, "outage") => match query.as_str() {
            "on" => shared.set_outage(true),
            "off" => shared.set_outage(false),
            _ => {
                let millis = query.strip_prefix("for-ms=").and_then(|it| it.parse().ok());
                let millis = millis.ok_or("write outage?on, outage?off or outage?for-ms=1000")?;
                outage_for(shared, Duration::from_millis(millis));
            }
        },
        (method, page) => return Err(format!("no such page: {method} {PREFIX}{page}")),
    }
    Ok("done\n".to_owned())
}

fn outage_for(shared: &Shared, time: Duration) {
    let environment = &shared.actions.environment;
    let (outage, over) = (shared.outage.clone(), environment.clock.sleep(time));
    let stop = environment.tasks.token();
    shared.set_outage(true);
    environment.tasks.spawn(TaskKind::Background, "outage", async move {
        tokio::select! {
            () = stop.stopped_owned() => {}
            () = over => {
                outage.send_replace(false);
            }
        }
    });
}
