//! What has to happen next to certificates that we manage ourselves: a pure decision.
//!
//! Renewal comes at two thirds of a certificate's life. A new authority is first announced (the webhook
//! configuration's caBundle holds both), and signs only when that has been seen and has had time to settle; the old one
//! leaves the bundle when every replica has long since served the new leaf. Each step is one write to the Secret, so
//! replicas that disagree about the time only lose a race, never the certificates.

/// Validity in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub from: i64,
    /// Last second.
    pub until: i64,
}

impl Validity {
    /// Whether two thirds of the life are over.
    fn is_due(self, now: i64) -> bool {
        let life = self.until.saturating_sub(self.from);
        now.saturating_sub(self.from).saturating_mul(3) >= life.saturating_mul(2)
    }
}

/// How long things last, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// An authority.
    pub authority: i64,
    /// A leaf.
    pub leaf: i64,
    /// From announcing an authority to signing with it.
    pub settle: i64,
    /// From a new leaf to dropping the authority before.
    pub overlap: i64,
    /// How far certificates are dated back, for clocks that are behind.
    pub backdate: i64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let day = 86_400;
        Self { authority: 3650 * day, leaf: 365 * day, settle: 600, overlap: day, backdate: 300 }
    }
}

/// What the Secret and the webhook configuration hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// The authority that signs, if it is usable.
    pub authority: Option<Validity>,
    /// The announced one.
    pub next: Option<Validity>,
    /// The one before.
    pub previous: Option<Validity>,
    /// The leaf, if it is signed by the authority and for the right names.
    pub leaf: Option<Validity>,
    /// Whether the webhook configuration shows the whole bundle.
    pub announced: bool,
}

/// One write to the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// All is well.
    Nothing,
    /// Start anew: authority and leaf.
    Found,
    /// Sign a new leaf.
    Issue,
    /// Make the next authority and announce it.
    Announce,
    /// Let the announced authority sign.
    Promote,
    /// Forget the authority before.
    Forget,
}

/// Decides on the next step.
pub fn next(now: i64, facts: &Facts, lifetimes: &Lifetimes) -> Action {
    let Facts { authority, next, previous, leaf, announced } = *facts;
    let Some(authority) = authority.filter(|authority| now < authority.until) else { return Action::Found };
    let Some(leaf) = leaf.filter(|leaf| !leaf.is_due(now)) else { return Action::Issue };
    let made = |validity: Validity| validity.from.saturating_add(lifetimes.backdate);
    if let Some(next) = next {
        let settled = now >= made(next).saturating_add(lifetimes.settle);
        return if announced && settled { Action::Promote } else { Action::Nothing };
    }
    if authority.is_due(now) {
        return Action::Announce;
    }
    match previous {
        Some(_) if now >= made(leaf).saturating_add(lifetimes.overlap) => Action::Forget,
        Some(_) | None => Action::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Facts, Lifetimes, Validity, next};

    const LIFE: Lifetimes = Lifetimes { authority: 9000, leaf: 900, settle: 60, overlap: 100, backdate: 10 };

    fn valid(from: i64, life: i64) -> Option<Validity> {
        Some(Validity { from, until: from + life })
    }

    #[test]
    fn each_step_comes_in_its_turn() {
        let fresh = Facts { authority: valid(0, 9000), leaf: valid(5600, 900), ..Facts::default() };
        let with = |change: fn(&mut Facts)| {
            let mut facts = fresh;
            change(&mut facts);
            facts
        };
        let cases = [
            (0, Facts::default(), Action::Found),
            (9000, fresh, Action::Found),
            (5700, fresh, Action::Nothing),
            (5700, with(|f| f.leaf = None), Action::Issue),
            (6199, fresh, Action::Announce),
            (6200, fresh, Action::Issue),
            (6050, with(|f| f.next = valid(6000, 9000)), Action::Nothing),
            (6069, with(|f| (f.next, f.announced) = (valid(6000, 9000), true)), Action::Nothing),
            (6070, with(|f| (f.next, f.announced) = (valid(6000, 9000), true)), Action::Promote),
            (6170, with(|f| f.next = valid(6000, 9000)), Action::Nothing),
            (5709, with(|f| f.previous = valid(0, 1)), Action::Nothing),
            (5710, with(|f| f.previous = valid(0, 1)), Action::Forget),
        ];
        for (now, facts, expected) in cases {
            assert_eq!(next(now, &facts, &LIFE), expected, "at {now}: {facts:?}");
        }
    }
}
