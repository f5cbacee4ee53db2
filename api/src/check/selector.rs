//! `spec.nodeSelector`: labels that can be, and a selector that a node could match. One that no node can match would do
//! nothing, and nobody would say so.

use std::collections::{BTreeMap, BTreeSet};

use super::Errors;
use crate::names;
use crate::policy::{LabelExpression, LabelOperator, NodeSelector};
use crate::tree::shortened;

pub(super) fn check(selector: &NodeSelector, errors: &mut Errors) {
    let NodeSelector { match_labels, match_expressions } = selector;
    let known = errors.list.len();
    for (key, value) in match_labels {
        let path = format!("spec.nodeSelector.matchLabels[{key}]");
        errors.rule(path.clone(), names::label_key(key));
        errors.rule(path, names::label_value(value));
    }
    for (index, expression) in match_expressions.iter().enumerate() {
        let path = format!("spec.nodeSelector.matchExpressions[{index}]");
        let LabelExpression { key, operator, values } = expression;
        errors.rule(format!("{path}.key"), names::label_key(key));
        match operator {
            LabelOperator::In | LabelOperator::NotIn if values.is_empty() => {
                errors
                    .add(format!("{path}.values"), "is empty; In and NotIn compare with at least one value");
            }
            LabelOperator::Exists | LabelOperator::DoesNotExist if !values.is_empty() => {
                errors.add(format!("{path}.values"), "has values; Exists and DoesNotExist take none");
            }
            LabelOperator::In
            | LabelOperator::NotIn
            | LabelOperator::Exists
            | LabelOperator::DoesNotExist => {}
        }
        for (number, value) in values.iter().enumerate() {
            errors.rule(format!("{path}.values[{number}]"), names::label_value(value));
        }
    }
    // A list that is empty contradicts itself, and was told.
    if errors.list.len() == known {
        contradictions(selector, errors);
    }
}

/// What a selector asks of one label.
#[derive(Debug, Default)]
struct Asked<'a> {
    there: bool,
    absent: bool,
    /// The values that it may have; none if that is left open.
    among: Option<BTreeSet<&'a str>>,
    not: BTreeSet<&'a str>,
}

impl<'a> Asked<'a> {
    fn one_of(&mut self, values: impl Iterator<Item = &'a str>) {
        let values: BTreeSet<&str> = values.collect();
        self.there = true;
        self.among = Some(match self.among.take() {
            Some(before) => before.intersection(&values).copied().collect(),
            None => values,
        });
    }

    /// Why no label can be like that.
    fn contradiction(&self) -> Option<&'static str> {
        if self.there && self.absent {
            return Some("would have to be there and not to be there");
        }
        let none = self.among.as_ref().is_some_and(|among| among.is_subset(&self.not));
        none.then_some("has no value that all requirements allow")
    }
}

fn contradictions(selector: &NodeSelector, errors: &mut Errors) {
    let NodeSelector { match_labels, match_expressions } = selector;
    let mut labels: BTreeMap<&str, Asked<'_>> = BTreeMap::new();
    for (key, value) in match_labels {
        labels.entry(key).or_default().one_of(std::iter::once(value.as_str()));
    }
    for LabelExpression { key, operator, values } in match_expressions {
        let asked = labels.entry(key).or_default();
        let values = values.iter().map(String::as_str);
        match operator {
            LabelOperator::In => asked.one_of(values),
            LabelOperator::NotIn => asked.not.extend(values),
            LabelOperator::Exists => asked.there = true,
            LabelOperator::DoesNotExist => asked.absent = true,
        }
    }
    for (key, asked) in labels {
        if let Some(why) = asked.contradiction() {
            let what = format!("selects no node: label `{}` {why}", shortened(key));
            errors.add_with_hint("spec.nodeSelector", what, "delete the policy if it is for no node");
        }
    }
}
