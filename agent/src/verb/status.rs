//! `status`: what the daemon makes of this node. `reconcile`: the same after a round that is started now.

use std::future::Future;

use portwright_api::NodeStateContent;
use portwright_api::state::ConditionStatus;
use portwright_host::root::Root;

use crate::cli::{Format, Global, ReconcileArgs};
use crate::daemon::socket::SOCKET;
use crate::daemon::socket::client::{self, AskError};
use crate::error::CliError;
use crate::output::{self, Exit};
use crate::pools::PoolsError;
use crate::text;

/// Runs `status`.
///
/// # Errors
/// There is no daemon, or it does not answer.
pub fn status(global: &Global) -> Result<Exit, CliError> {
    let path = Root::new(&global.root).join(SOCKET);
    show(global.output, &answer(client::state(&path))?)
}

/// Runs `reconcile`.
///
/// # Errors
/// There is no daemon, it does not answer, or the round takes longer than the operator waits.
pub fn reconcile(global: &Global, arguments: &ReconcileArgs) -> Result<Exit, CliError> {
    let path = Root::new(&global.root).join(SOCKET);
    show(global.output, &answer(client::reconcile(&path, arguments.timeout))?)
}

fn answer(
    asks: impl Future<Output = Result<NodeStateContent, AskError>>,
) -> Result<NodeStateContent, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|source| PoolsError::System { what: "start a runtime".to_owned(), source })?;
    runtime.block_on(asks).map_err(|source| CliError::Daemon { source: Box::new(source) })
}

/// Prints what the daemon told.
///
/// # Errors
/// stdout cannot be written.
pub fn show(format: Format, content: &NodeStateContent) -> Result<Exit, CliError> {
    output::print(format, content, || text::status::render(content))?;
    Ok(exit(content))
}

/// 0 if everything is ready, 1 if not, 2 if the daemon cannot tell.
pub fn exit(content: &NodeStateContent) -> Exit {
    match content.ready().map(|ready| ready.status) {
        Some(ConditionStatus::True) => Exit::Ok,
        Some(ConditionStatus::False) => Exit::Differs,
        Some(ConditionStatus::Unknown) | None => Exit::CouldNotTell,
    }
}
