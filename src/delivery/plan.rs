//! Which destinations a lead goes to, and how its deliveries are born. Pure.
