//! Errors in one line for logs and answers.

use kube::runtime::watcher;

/// An error with its causes, each once, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let (words, last) = words(error);
        if text.is_empty() {
            text = words;
        } else if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = if last { None } else { error.source() };
    }
    text
}

/// What one error says without its causes, and whether it is the last of the chain. The client library prints answers of
/// the API server with all their fields, and causes twice.
fn words(error: &(dyn std::error::Error + 'static)) -> (String, bool) {
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        let message = status.message.trim();
        let nothing = format!("the API server answers {}", status.code);
        return (if message.is_empty() { nothing } else { message.to_owned() }, true);
    }
    let words = match error.downcast_ref::<watcher::Error>() {
        Some(watcher::Error::InitialListFailed(_)) => "cannot list".to_owned(),
        Some(watcher::Error::WatchStartFailed(_)) => "cannot watch".to_owned(),
        Some(watcher::Error::WatchFailed(_)) => "the watch has ended".to_owned(),
        Some(watcher::Error::WatchError(status)) => {
            return (format!("the API server ends the watch: {}", status.message.trim()), true);
        }
        Some(watcher::Error::NoResourceVersion) | None => error.to_string(),
    };
    (words, false)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::runtime::watcher;

    use super::chain;
    use crate::certs::self_managed::ManageError;

    fn api(message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure(message, "Forbidden").with_code(403)))
    }

    #[test]
    fn answers_of_the_api_server_are_told_by_their_message_alone() {
        let listed = watcher::Error::InitialListFailed(api("secrets is forbidden"));
        assert_eq!(chain(&listed), "cannot list: secrets is forbidden");
        assert_eq!(
            chain(&watcher::Error::WatchFailed(api(""))),
            "the watch has ended: the API server answers 403"
        );
        let expired = Status::failure("too old\n", "Expired");
        assert_eq!(
            chain(&watcher::Error::WatchError(Box::new(expired))),
            "the API server ends the watch: too old"
        );
        let refused =
            ManageError::Api { verb: "read", object: "Secret a/b".to_owned(), source: api("not now") };
        assert_eq!(chain(&refused), "cannot read Secret a/b: not now");
    }
}
