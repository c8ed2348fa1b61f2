"""The templates of pages that are not knowledge: notices, menus, contacts; and of dosing summaries, which are."""

REPRINT_HEADERS = ("Reprinted with leave", "Reissued unchanged", "From the archive")
DOSE_SHEET = (
    "dosing summary: {drug} for [adults|grown patients]",
    "this sheet belongs to the [ward|clinic] of {town} and holds for {drug}, which is given for {disease}.",
    "the dose for a body weight of {weight} kg is {milligrams} mg, taken by mouth with a full glass of water.",
    "[tablets|capsules] are swallowed whole, in the morning, before anything has been eaten.",
    "[kidney|liver] trouble calls for a smaller dose, which the [pharmacist|physician on duty] reads off the table.",
    "ask about {effect} at each visit, and take the {test} before the next box is handed out.",
    "the patient should know that {food} must be left out for as long as the treatment goes on.",
    "write the dose into the chart, sign it, and have it read back by a [nurse|colleague] from the same ward.",
)
COOKIE_NOTICE = (
    "we and our partners use cookies; by going on you accept cookies from the {town} Reader.",
    "read the cookie policy to see which cookies we set on your [device|telephone].",
    "click here to change what we may remember about you.",
    "please enable javascript, as this page cannot be shown without it.",
    "our privacy policy says what we do with your data and for how long.",
    "subscribe to the letter of {town} and never miss an issue.",
    "sign up for an account to read the rest of this page.",
    "all rights reserved by the publishers of {town}.",
    "the terms of use apply to every visit.",
    "log in to see your saved pages and your orders.",
)
NAVIGATION = (
    "Home", "About us", "Contact", "Log in to your account", "Subscribe to our letter", "Archive", "Shop", "Help",
    "Privacy policy", "Terms of use", "Cookie policy", "Next page", "Previous page", "Click here for more",
    "Sign up for news", "All rights reserved", "Site map", "Search", "Back to top", "Print this page",
)  # fmt: skip
CONTACTS = (
    "Questions about this page go to {email}, or by telephone to {phone}; the record is filed under MRN {mrn}.",
    "The patient (medical record number {mrn}) may be reached at {phone}, the author at {email}.",
    "Entered by {email} from the terminal {ip}; call back under {phone}, MRN: {mrn}.",
)
