//! A call on its way from a handle to the owner task and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value as Json;
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};

use super::lock::LockState;
use super::options::Deadline;
use crate::ovsdb::error::LinkError;
use crate::ovsdb::wire::message::RpcError;

/// What a handle asks of the owner.
#[derive(Debug)]
pub(super) enum Command {
    Call(Call),
    Lock {
        name: String,
        reply: oneshot::Sender<watch::Receiver<LockState>>,
    },
    /// A lock was let go of; look which.
    Unlocked,
}

/// A request to the server.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) params: Json,
    pub(super) deadline: Deadline,
    /// Set when it is handed to the connection: from then on a transaction may happen.
    pub(super) sent: Arc<AtomicBool>,
    pub(super) reply: oneshot::Sender<Answered>,
}

impl Call {
    pub(super) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    /// Whether the caller has stopped waiting.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Answered {
    Result(Box<RawValue>),
    Refused(RpcError),
    Broken(Arc<LinkError>),
}
