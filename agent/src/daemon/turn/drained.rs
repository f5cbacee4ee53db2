//! A turn that an external drainer gives: it is asked by an annotation on the Node and grants by another. We then neither
//! take places nor cordon nor evict.

use tokio::time::Instant;

use super::error::TurnError;
use super::node::{Handshake, NodeView};
use super::seeking::Answer;
use super::serving::{Basis, Due, Serving};

impl Serving<'_> {
    /// Asks the drainer, or sees whether it has granted.
    pub(super) async fn drained_by(
        &mut self,
        drainer: &str,
        view: &NodeView,
        due: &mut Due,
    ) -> Result<Answer, TurnError> {
        self.stop_seeking();
        (self.evictions, self.missing) = (None, None);
        self.streams.pods = None;
        let policies: Vec<String> = self.places.keys().cloned().collect();
        for policy in policies {
            self.give_back(&policy).await;
        }
        if let Some(patch) = view.uncordon() {
            let node = self.calls.patch_node(&patch).await?;
            self.see_node(NodeView::read(&node));
            due.at(Instant::now());
            return Ok(Err(format!("drainer {drainer} is about to be asked")));
        }
        match view.handshake(&self.wanted) {
            Handshake::Ask(disruption) => {
                self.confirmed = None;
                let node = self.calls.patch_node(&view.ask(&disruption)).await?;
                self.see_node(NodeView::read(&node));
                tracing::info!(drainer, id = disruption.id, "the drainer is asked for this node");
                Ok(Err(format!("drainer {drainer} has been asked ({})", disruption.id)))
            }
            Handshake::Wait => {
                self.confirmed = None;
                Ok(Err(format!("drainer {drainer} has not granted the disruption yet")))
            }
            Handshake::Granted => {
                self.confirm(due).await?;
                Ok(Ok(Basis::Node))
            }
        }
    }

    /// Reads the Node again if its last reading is too old to rest a grant on: what was granted can be taken back, and a node
    /// that cannot reach the API server must notice.
    pub(super) async fn confirm(&mut self, due: &mut Due) -> Result<(), TurnError> {
        let now = Instant::now();
        let next = self.confirmed.map_or(now, |confirmed| confirmed + self.settings.renew);
        if next > now {
            due.at(next);
            return Ok(());
        }
        let node = self.calls.read_node().await?;
        if let Some(node) = node {
            let view = NodeView::read(&node);
            // What has changed is judged when it is looked at again, which is at once.
            let same = matches!(&self.node, super::serving::Known::Is(known) if known.granted == view.granted && known.drainer == view.drainer);
            self.see_node(view);
            if same {
                self.confirmed = Some(now);
                due.at(now + self.settings.renew);
            } else {
                self.confirmed = None;
                due.at(now);
            }
        }
        Ok(())
    }
}
