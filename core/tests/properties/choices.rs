//! A case is a list of numbers: each decision of the generator takes the next one, and 0 stands for the plainest choice.
//! proptest shrinks the list towards zeros, and so the case towards a plain node with one odd thing.

/// The numbers that are left.
pub struct Choices<'a> {
    rest: std::slice::Iter<'a, u16>,
}

impl<'a> Choices<'a> {
    pub fn new(numbers: &'a [u16]) -> Self {
        Choices { rest: numbers.iter() }
    }

    fn next(&mut self) -> u16 {
        self.rest.next().copied().unwrap_or(0)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.next()) % n.max(1)
    }

    /// True in so many of 100 cases.
    pub fn chance(&mut self, percent: u16) -> bool {
        self.next() % 100 >= 100 - percent
    }

    /// One of the given, the first being the plainest.
    pub fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// A number for counting VFs.
    pub fn count(&mut self, most: u16) -> u16 {
        self.next() % (most + 1)
    }
}
