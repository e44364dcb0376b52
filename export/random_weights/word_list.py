"""List English words for a vocabulary: Llama's own splits of our questions, common words, endings."""

from __future__ import annotations

SPLIT = {
    "ASSISTANT": "A SS IST ANT",
    "Analyze": "An aly ze",
    "Choose": "Cho ose",
    "Describe": "Des cribe",
    "Medium": "Med ium",
    "USER": "US ER",
    "aesthetic": "a est h etic",
    "faults": "fault s",
    "polite": "pol ite",
    "strengths": "strength s",
}
"""Words of prompts and labels that are several tokens in Llama's vocabulary, which a score's cost depends on."""

COMMON = """
    one two three first second last small large great long short high low old new young early late same other many more
    most much some any each every both few several such next own right left good bad better best worse well very too
    also only just even still again always never often perhaps quite rather almost enough here there where when why who
    which what how this that these those it its he she they we you I me him her us them his their our your my be been
    being is are was were am have has had do does did done can could will would shall should may might must not no yes
    if then than because while although though before after during since until about above below over under between
    through across against along around behind beside near into onto off out up down on in at by for from with without
    within to of as and or but so nor a an the all none nothing something everything someone people person man woman
    child family friend world country city house home room door window street road water river sea lake mountain tree
    forest flower grass garden sky sun moon star cloud rain snow light dark shadow day night morning evening time year
    month week hour moment life death story book word name number part place point line side end way thing kind sort
    form shape size color red green blue white black brown gray yellow orange warm cold soft hard sharp bright deep rich
    clear clean strong weak heavy quick slow simple complex natural real true false open closed full empty whole half
    center middle top bottom front back edge corner frame view scene subject object detail texture pattern contrast
    balance focus depth field background camera photo photograph picture image art artist style feeling sense effect
    quality composition content technical visual beautiful interesting attention eye look see seen show shows shown make
    makes made take takes taken give gives given use uses used using add adds added create creates created bring help
    helps lead leads draw keep keeps find found feel feels seem seems appear appears remain become becomes come comes
    came go goes went gone get gets got put set let say says said tell told think thought know known want need try work
    works turn move moved stand stands sit lie hold holds held leave run fall rise grow change changed improve improved
    reduce increase remove avoid suggest consider describe overall however therefore together instead especially
    slightly strongly clearly nearly mainly partly noise tone angle perspective symmetry range level amount degree
    problem reason result example fact case question answer strength
"""
"""Each of them is one token in Llama's vocabulary."""

ENDINGS = """
    ing tion ation ment ness able ible ous ful less ance ence ity ive ure ter est ers ed er ly es en al ic ar or le re
    st th ch sh in on an at it is as ur ess ight ound ing
"""
"""What words go on with, the likeliest first."""
