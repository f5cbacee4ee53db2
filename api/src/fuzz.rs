//! Entry point for fuzzing: whatever the bytes, reading, checking and converting a policy ends with an answer.

/// Reads the bytes as a policy file, checks and converts what is in it. Must return, and never panic.
pub fn fuzz_policy(data: &[u8]) {
    let Ok(text) = crate::decode("fuzz.yaml", data) else { return };
    let Ok(policies) = crate::read("fuzz.yaml", text) else { return };
    for entry in &policies {
        let wrong = crate::check(&entry.policy);
        for error in wrong {
            drop(entry.locate(error).to_string());
        }
        drop(crate::convert(&entry.policy));
    }
}
