//! Answers written by hand after linux/netlink.h: their end, refusals with and without words, and nonsense.

use super::*;

const SEQUENCE: u32 = 7;

/// A message as the kernel sends it.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = encode(kind, flags, sequence, body).unwrap();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Code, header of the request (and its body, unless capped), attributes.
fn refusal(code: i32, capped: bool, text: &str) -> Vec<u8> {
    let request = message(16, NLM_F_REQUEST, SEQUENCE, b"body of request.");
    let echoed = if capped { request.get(..HEADER).unwrap() } else { &request };
    let mut body = code.to_ne_bytes().to_vec();
    body.extend_from_slice(echoed);
    let length = u16::try_from(4 + text.len() + 1).unwrap();
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&EXTACK_TEXT.to_ne_bytes());
    body.extend_from_slice(text.as_bytes());
    body.push(0);
    let flags = NLM_F_ACK_TLVS | if capped { NLM_F_CAPPED } else { 0 };
    message(NLMSG_ERROR, flags, SEQUENCE, &body)
}

fn take(datagram: &[u8]) -> (Result<bool, NetlinkError>, Vec<Message>, bool) {
    let ask = Ask::new("set", "x");
    let mut answer = Answer { ask: &ask, sequence: SEQUENCE, messages: Vec::new(), unsteady: false };
    let end = answer.take(datagram);
    (end, answer.messages, answer.unsteady)
}

#[test]
fn a_refusal_has_the_kernels_words_whether_or_not_the_request_is_echoed() {
    for capped in [true, false] {
        let (end, ..) = take(&refusal(-95, capped, "Not on this port"));
        let error = end.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP));
        assert!(error.to_string().ends_with("(the kernel says: Not on this port)"), "{error}");
    }
    let plain =
        message(NLMSG_ERROR, NLM_F_CAPPED, SEQUENCE, &[&(-16_i32).to_ne_bytes()[..], &[0; 16]].concat());
    assert_eq!(take(&plain).0.unwrap_err().to_string(), "set x: EBUSY: Device or resource busy");
}

#[test]
fn a_list_can_end_in_a_refusal() {
    let done = message(NLMSG_DONE, 0, SEQUENCE, &(-1_i32).to_ne_bytes());
    assert_eq!(take(&done).0.unwrap_err().errno(), Some(Errno::EPERM));
    let done = message(NLMSG_DONE, 0, SEQUENCE, &0_i32.to_ne_bytes());
    assert!(take(&done).0.unwrap());
}

#[test]
fn messages_of_other_requests_are_passed_over_and_a_changed_list_is_noticed() {
    let datagram = [
        message(16, 0, SEQUENCE - 1, b"late"),
        message(NLMSG_ERROR, 0, SEQUENCE - 1, &(-1_i32).to_ne_bytes()),
        message(16, NLM_F_DUMP_INTR, SEQUENCE, b"mine"),
        message(16, 0, SEQUENCE, b"odd"),
    ]
    .concat();
    let (end, messages, unsteady) = take(&datagram);
    assert!(!end.unwrap(), "the end is still to come");
    assert!(unsteady);
    let bodies: Vec<&[u8]> = messages.iter().map(|message| message.body.as_slice()).collect();
    assert_eq!(bodies, [&b"mine"[..], b"odd"]);
}

#[test]
fn broken_answers_are_errors() {
    let mut longer_than_the_datagram = message(16, 0, SEQUENCE, b"body");
    longer_than_the_datagram.first_chunk_mut::<4>().unwrap().copy_from_slice(&999_u32.to_ne_bytes());
    let mut shorter_than_its_header = message(16, 0, SEQUENCE, b"body");
    shorter_than_its_header.first_chunk_mut::<4>().unwrap().copy_from_slice(&3_u32.to_ne_bytes());
    let no_code = message(NLMSG_ERROR, 0, SEQUENCE, &[1, 2]);
    for bad in [longer_than_the_datagram, shorter_than_its_header, no_code, vec![1; 7]] {
        let error = take(&bad).0.unwrap_err();
        assert!(matches!(error, NetlinkError::Malformed { .. }), "{error}");
    }
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    // A fixed sequence: what fails once fails again.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seeds =
        [refusal(-95, true, "words"), refusal(-95, false, "words"), message(16, 0, SEQUENCE, &[0; 64])];
    for round in 0..20_000_usize {
        let mut bytes = seeds.get(round % seeds.len()).unwrap().clone();
        for _ in 0..=random() % 4 {
            let place = usize::try_from(random()).unwrap() % bytes.len();
            *bytes.get_mut(place).unwrap() = random().to_le_bytes()[0];
        }
        bytes.truncate(usize::try_from(random()).unwrap() % (bytes.len() + 1));
        take(&bytes).0.map(drop).unwrap_or_default();
        super::super::vf::decode(&bytes).map(drop).unwrap_or_default();
        crate::uevent::parse(&bytes).map(drop).unwrap_or_default();
    }
}
