//! Kubernetes quantities, as far as whole device counts need them.
//!
//! Extended resources are counted in whole units, but an API client may write `2`, `"2"`, `"2000m"`, `"2e0"` or
//! `"0.002k"` for the same two devices, so the text is read exactly (no floating point) and then asked for a whole
//! number. Format: `k8s.io/apimachinery` resource quantities, decimal and binary suffixes and exponents.

/// Digits and decimals we are willing to look at: more than any number that the API server accepts.
const MAX_DIGITS: usize = 36;

/// The whole number of units that `text` stands for; `None` if it is no quantity, negative or not whole.
pub fn whole(text: &str) -> Option<u64> {
    let (mantissa, decimals, suffix) = split(text)?;
    let (base, exponent) = scale(suffix)?;
    let mut value = mantissa;
    for _ in 0..exponent.max(0) {
        value = value.checked_mul(base)?;
    }
    let mut divisor: u128 = 1;
    for _ in 0..exponent.min(0).unsigned_abs() {
        divisor = divisor.checked_mul(base)?;
    }
    for _ in 0..decimals {
        divisor = divisor.checked_mul(10)?;
    }
    if value.checked_rem(divisor)? != 0 {
        return None;
    }
    u64::try_from(value.checked_div(divisor)?).ok()
}

/// Whether `text` is a quantity that amounts to nothing (`0`, `"0Gi"`, `"0.0"`).
pub fn is_zero(text: &str) -> bool {
    split(text).is_some_and(|(mantissa, _, suffix)| mantissa == 0 && scale(suffix).is_some())
}

/// Splits into the digits as one number, how many of them stood behind the point, and the suffix.
fn split(text: &str) -> Option<(u128, u32, &str)> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (front, back) = number.split_once('.').unwrap_or((number, ""));
    if (front.is_empty() && back.is_empty()) || back.contains('.') || front.len() + back.len() > MAX_DIGITS {
        return None;
    }
    let mut mantissa: u128 = 0;
    for digit in front.chars().chain(back.chars()) {
        mantissa = mantissa.checked_mul(10)?.checked_add(u128::from(digit.to_digit(10)?))?;
    }
    Some((mantissa, u32::try_from(back.len()).ok()?, suffix))
}

/// The base and exponent that a suffix stands for.
fn scale(suffix: &str) -> Option<(u128, i32)> {
    Some(match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            if !(-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
                return None;
            }
            (10, exponent)
        }
    })
}

/// An exponent beyond this cannot be a device count.
const MAX_EXPONENT: i32 = 36;

#[cfg(test)]
mod tests {
    use super::{is_zero, whole};

    #[test]
    fn whole_numbers_are_read_exactly() {
        let cases = [
            ("1", Some(1)),
            ("2000m", Some(2)),
            ("0.002k", Some(2)),
            ("2e0", Some(2)),
            ("1Ki", Some(1024)),
            ("+3", Some(3)),
            ("1.5", None),
            ("1.5Ki", Some(1536)),
            ("100e-2", Some(1)),
            ("-1", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("1x", None),
            ("1e999999999", None),
            ("0", Some(0)),
            ("99999999999999999999999999999999999999", None),
            ("18446744073709551615", Some(u64::MAX)),
        ];
        for (text, expected) in cases {
            assert_eq!(whole(text), expected, "{text}");
        }
    }

    #[test]
    fn zero_is_zero_whatever_its_suffix() {
        for (text, expected) in
            [("0", true), ("0Gi", true), ("0.0", true), ("1Gi", false), ("x", false), ("", false)]
        {
            assert_eq!(is_zero(text), expected, "{text}");
        }
    }
}
