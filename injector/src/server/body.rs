//! Request bodies: a limit for each, a limit for all together, and a limit in time.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{BODY_TIMEOUT, MAX_BODIES, MAX_BODY};

/// So much of a body needs no share: connections are limited, and a small review must not wait behind large ones.
const FREE: usize = 64 * 1024;
/// The unit in which memory for bodies is shared out.
const UNIT: usize = 1024;
/// A body that is too large is still read up to here, so that the client gets to see our answer.
const MAX_DISCARD: usize = 64 * 1024 * 1024;

/// Memory for bodies, shared by all connections.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BODIES.div_ceil(UNIT))))
    }
}

/// A body with the memory it takes; given back when dropped.
#[derive(Debug)]
pub struct Collected {
    /// The bytes.
    pub bytes: Vec<u8>,
    _memory: Option<OwnedSemaphorePermit>,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than [`MAX_BODY`].
    #[error("the request body is larger than {} MiB", MAX_BODY >> 20)]
    TooLarge,
    /// Not complete within [`BODY_TIMEOUT`].
    #[error("the request body did not arrive within {} s", BODY_TIMEOUT.as_secs())]
    TooSlow,
    /// The connection broke.
    #[error("the request body is incomplete")]
    Broken,
    /// The other bodies take all the memory there is.
    #[error("too many large requests at once; try again")]
    NoMemory,
}

impl Budget {
    /// Collects a body. One that is too large is read and thrown away first.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn collect(&self, mut body: Incoming) -> Result<Collected, BodyError> {
        let collected = tokio::time::timeout(BODY_TIMEOUT, self.collect_frames(&mut body)).await;
        let error = match collected {
            Ok(Ok(collected)) => return Ok(collected),
            Ok(Err(error)) => error,
            // Still waiting for memory counts as being out of it; still waiting for bytes is the client's doing.
            Err(_) if self.is_short() => BodyError::NoMemory,
            Err(_) => return Err(BodyError::TooSlow),
        };
        // The client gets to see our answer only once it has sent its body; whether it does makes no difference here.
        tokio::time::timeout(BODY_TIMEOUT, discard(body)).await.ok();
        Err(error)
    }

    /// Whether the largest body would have to wait.
    fn is_short(&self) -> bool {
        self.0.available_permits() < MAX_BODY.div_ceil(UNIT)
    }

    async fn collect_frames(&self, body: &mut Incoming) -> Result<Collected, BodyError> {
        let announced = body.size_hint();
        if announced.lower() > MAX_BODY as u64 {
            return Err(BodyError::TooLarge);
        }
        let most =
            announced.upper().and_then(|upper| usize::try_from(upper).ok()).unwrap_or(MAX_BODY).min(MAX_BODY);
        let mut bytes: Vec<u8> = Vec::with_capacity(most.min(FREE));
        let mut memory = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| BodyError::Broken)?;
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > MAX_BODY {
                return Err(BodyError::TooLarge);
            }
            if length > FREE && memory.is_none() {
                // All of it at once: bodies that each hold a part and wait for the rest would wait for one another.
                let units = u32::try_from(most.max(length).div_ceil(UNIT)).unwrap_or(u32::MAX);
                let permit = Arc::clone(&self.0).acquire_many_owned(units).await;
                memory = Some(permit.map_err(|_| BodyError::NoMemory)?);
                bytes.reserve_exact(most.saturating_sub(bytes.len()));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Collected { bytes, _memory: memory })
    }
}

async fn discard(mut body: Incoming) {
    let mut seen = 0usize;
    while let Some(Ok(frame)) = body.frame().await {
        seen = seen.saturating_add(frame.data_ref().map_or(0, bytes::Bytes::len));
        if seen > MAX_DISCARD {
            return;
        }
    }
}
