//! One schedule a defect; the simulation tries all others.
