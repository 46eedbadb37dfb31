// Queries with the lists that a keyword search might give.

/** Samples of the button "Another example". */
export const SAMPLES = [
  {
    query: "my chain slips when I pedal hard",
    passages: [
      "Pedals: left pedals have a left-hand thread. Tighten them against the direction of travel.",
      "Chain care: wipe the chain after wet rides and oil it sparingly; too much oil collects dirt.",
      "Hard braking on gravel makes the rear wheel skid. Shift your weight back and brake with two fingers.",
      "A jumping chain under load is nearly always a matter of wear. Measure it with a gauge: beyond 0.75 percent the "
        + "links no longer sit deep enough on the teeth, so the drive skips forward when the rider pushes. Fit a new "
        + "one, and if the skipping stays, the sprockets have worn along with it and need to go too.",
      "Our workshop is open Monday to Friday, 9 to 18 h, and on Saturdays in summer.",
      "Winter tyres have softer rubber, so that they do not slip on cold roads.",
      "If gears change by themselves, turn the barrel adjuster half a turn until the derailleur lines up with the cog.",
      "Chain guards keep trousers clean. They are held by two screws at the chain stay.",
    ],
  },
  {
    query: "can I get my money back for a cancelled concert?",
    passages: [
      "Money can be paid into your account by card, bank transfer or voucher.",
      "Concert tickets are sent as a PDF. Show it at the entrance, on paper or on your phone.",
      "Back rows are cheaper; seats with a limited view are marked in the plan.",
      "When an event is called off by the organiser, the full ticket price including fees returns to the card that you "
        + "paid with, within ten working days. You need not write to us.",
      "If a show is moved to another day, tickets stay valid. You may return them until two weeks before the new date.",
      "You cannot cancel an order yourself once tickets have been issued.",
      "Gift cards do not expire and cannot be exchanged for cash.",
    ],
  },
  {
    query: "Why does my Python list change when I edit its copy?",
    passages: [
      "To copy a file in Python, use shutil.copy(source, target); it keeps the permission bits.",
      "list.sort() sorts in place and returns None; sorted() returns a new list.",
      "An assignment never duplicates an object. Two names then refer to the same one, so an edit through either is "
        + "seen through both. A slice such as a[:] makes a new outer list, while nested ones are still shared; "
        + "copy.deepcopy goes all the way down.",
      "Edit the list of trusted hosts in settings.py and restart the server.",
      "Tuples cannot be changed, which is why they can be keys of a dict.",
      "Default arguments are evaluated once, so a list as a default keeps what earlier calls appended.",
    ],
  },
];
