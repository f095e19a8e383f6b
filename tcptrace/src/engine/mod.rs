//! What tcptrace knows and concludes. Pure: facts and their times come in as arguments, updates go
//! out; no kernel, file, clock or output here, so a recording gives what the live run gave.

pub mod alike;
pub mod assemble;
pub mod blocked;
pub mod call_tree;
pub mod check;
pub mod counted;
pub mod decode;
pub mod fact;
pub mod forecast;
pub mod group;
pub mod holdings;
pub mod incident;
pub mod judge;
pub mod language;
pub mod leakers;
pub mod name;
pub mod opener;
pub mod origin;
pub mod ownership;
pub mod parse;
pub mod processes;
pub mod record;
pub mod report;
pub mod reports;
pub mod select;
pub mod stack;
pub mod stories;
pub mod tally;
pub mod tracker;
pub mod unknown;
pub mod update;
pub mod verdict;
pub mod waiting;
pub mod watch;
pub mod worst;
