//! Stacks laid over one another: which calls led to how many sockets.

use std::rc::Rc;

use super::stack::{Frame, Stack};

/// A call, how many went through it, and the calls that it made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallTree {
    /// The call; of the root, none.
    pub frame: Option<Frame>,
    /// Sockets.
    pub count: u64,
    /// What it called, the most frequent first.
    pub calls: Vec<CallTree>,
}

/// Calls that are told apart in a tree; what is beyond them ends where they do.
const CALLS: usize = 4_096;
/// Deeper calls are left out.
const DEPTH: usize = 24;

impl CallTree {
    /// The tree of these stacks: the program's own calls, and of stacks without any, all.
    #[must_use]
    pub fn new<'a>(stacks: impl Iterator<Item = &'a Rc<Stack>>) -> Self {
        let mut root = Self::default();
        let mut room = CALLS;
        for stack in stacks {
            root.add(&path(stack), &mut room);
        }
        root.sort();
        root
    }

    fn add(&mut self, path: &[&Frame], room: &mut usize) {
        self.count += 1;
        let Some((first, rest)) = path.split_first() else { return };
        let known =
            self.calls.iter().position(|c| c.frame.as_ref().is_some_and(|f| same(f, first)));
        let at = match known {
            Some(at) => at,
            None if *room > 0 => {
                *room -= 1;
                self.calls.push(Self { frame: Some((*first).clone()), ..Self::default() });
                self.calls.len() - 1
            }
            None => return,
        };
        self.calls[at].add(rest, room);
    }

    fn sort(&mut self) {
        self.calls.sort_by_key(|call| std::cmp::Reverse(call.count));
        self.calls.iter_mut().for_each(Self::sort);
    }
}

/// From the outermost call to the innermost.
fn path(stack: &Stack) -> Vec<&Frame> {
    let mut path: Vec<&Frame> = stack.own_calls().collect();
    if path.is_empty() {
        path = stack.frames.iter().filter(|f| f.function.is_some()).collect();
    }
    // The innermost say most.
    path.truncate(DEPTH);
    path.reverse();
    path
}

/// Whether two frames are one call: addresses within a line do not matter.
fn same(a: &Frame, b: &Frame) -> bool {
    let place = |f: &Frame| (f.file.is_none().then_some(f.offset), f.line);
    a.function == b.function && a.file == b.file && a.module == b.module && place(a) == place(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::stack::Code;

    fn stack(calls: &[u8]) -> Rc<Stack> {
        let frame = |n: &u8| Frame {
            function: Some(format!("f{n}")),
            code: if *n < 3 { Code::Own } else { Code::Library },
            ..Frame::default()
        };
        Rc::new(Stack { frames: calls.iter().map(frame).collect(), cut: None })
    }

    fn text(tree: &CallTree) -> String {
        let name = tree.frame.as_ref().and_then(|f| f.function.clone()).unwrap_or_default();
        let calls: Vec<String> = tree.calls.iter().map(text).collect();
        format!("{name}{}({})", tree.count, calls.join(" "))
    }

    #[test]
    fn own_calls_from_the_outermost() {
        let stacks = [stack(&[5, 1, 0, 7]), stack(&[6, 2, 0]), stack(&[2, 5, 0]), stack(&[5, 6])];
        let tree = CallTree::new(stacks.iter());
        assert_eq!(text(&tree), "4(f03(f22() f11()) f61(f51()))");
    }

    proptest! {
        #[test]
        fn every_stack_is_counted_once(
            stacks in proptest::collection::vec(proptest::collection::vec(0u8..6, 0..30), 0..40),
        ) {
            let stacks: Vec<Rc<Stack>> = stacks.iter().map(|calls| stack(calls)).collect();
            let tree = CallTree::new(stacks.iter());
            prop_assert_eq!(tree.count, stacks.len() as u64);
            fn sound(tree: &CallTree) -> bool {
                let below: u64 = tree.calls.iter().map(|c| c.count).sum();
                below <= tree.count && tree.calls.iter().all(sound)
            }
            prop_assert!(sound(&tree));
        }
    }
}
