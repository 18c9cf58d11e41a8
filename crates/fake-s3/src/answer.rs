//! Answers, and their bodies as hyper sends them.
//!
//! Invariant: bytes of objects are sent from where they were received into (or from the file they were
//! written to); an answer copies none of them.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use environment::{TaskGroup, TaskHandle, TaskKind};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use crate::content::{Chunk, Content};
use crate::refusal::Refusal;

const XML: HeaderValue = HeaderValue::from_static("application/xml");

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Sent,
}

#[derive(Debug)]
pub(crate) enum Sent {
    Nothing,
    Text(String),
    Object(Content),
}

impl Answer {
    pub(crate) fn empty(status: StatusCode) -> Answer {
        Answer { status, headers: HeaderMap::new(), body: Sent::Nothing }
    }

    pub(crate) fn xml(text: String) -> Answer {
        Answer { body: Sent::Text(text), ..Answer::empty(StatusCode::OK) }
            .with(header::CONTENT_TYPE, XML)
    }

    pub(crate) fn refused(refusal: &Refusal, resource: &str) -> Answer {
        if refusal.status == StatusCode::NOT_MODIFIED {
            return Answer::empty(refusal.status);
        }
        Answer { status: refusal.status, ..Answer::xml(refusal.to_xml(resource)) }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.insert(name, value);
        self
    }

    /// Bytes of object data that are sent to a request of this method.
    pub(crate) fn object_bytes(&self, method: &Method) -> u64 {
        match &self.body {
            Sent::Object(content) if method != Method::HEAD => content.length(),
            _ => 0,
        }
    }

    /// `cut_after`: after so many bytes the connection ends.
    pub(crate) fn into_response(
        self,
        method: &Method,
        tasks: &TaskGroup,
        cut_after: Option<u64>,
    ) -> Response<AnswerBody> {
        let (length, chunks) = match self.body {
            Sent::Nothing => (0, VecDeque::new()),
            Sent::Text(text) => (text.len() as u64, VecDeque::from([Chunk::Memory(text.into())])),
            Sent::Object(content) => (content.length(), content.chunks()),
        };
        let (chunks, remaining) =
            if method == Method::HEAD { (VecDeque::new(), 0) } else { (chunks, length) };
        let body = AnswerBody {
            chunks,
            remaining,
            reading: None,
            tasks: tasks.clone(),
            cut_after,
            cut: false,
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }
}

/// A body on its way out.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    chunks: VecDeque<Chunk>,
    remaining: u64,
    /// The piece of a file that is being read.
    reading: Option<TaskHandle<io::Result<Bytes>>>,
    tasks: TaskGroup,
    cut_after: Option<u64>,
    cut: bool,
}

impl AnswerBody {
    /// Ends the body early where that was decided.
    fn send(&mut self, mut bytes: Bytes) -> Frame<Bytes> {
        if let Some(left) = &mut self.cut_after {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        self.remaining -= bytes.len() as u64;
        Frame::data(bytes)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.cut_after == Some(0) {
            if this.cut {
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, "a fault: cut here");
                return Poll::Ready(Some(Err(error)));
            }
            // Once pending, so that hyper sends what it has before it hears of the error.
            this.cut = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(reading) = &mut this.reading {
                let Poll::Ready(read) = Pin::new(reading).poll(context) else {
                    return Poll::Pending;
                };
                this.reading = None;
                let read = read.unwrap_or_else(|end| Err(io::Error::other(end)));
                return Poll::Ready(Some(read.map(|bytes| this.send(bytes))));
            }
            match this.chunks.pop_front() {
                None => return Poll::Ready(None),
                Some(Chunk::Memory(bytes)) => return Poll::Ready(Some(Ok(this.send(bytes)))),
                Some(Chunk::File(blob, range)) => {
                    let blob = Arc::clone(&blob);
                    let read = move || blob.read(&range);
                    let reading = this.tasks.spawn_blocking(TaskKind::Background, "read", read);
                    this.reading = Some(reading);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
