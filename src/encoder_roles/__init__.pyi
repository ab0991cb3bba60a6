from encoder_roles.analysis.advisor.advisor import Advice as Advice
from encoder_roles.analysis.advisor.advisor import Goal as Goal
from encoder_roles.analysis.advisor.advisor import advise as advise
from encoder_roles.analysis.external.scores import Analysis as Analysis
from encoder_roles.analysis.external.scores import analyse_table as analyse_table
from encoder_roles.study.names import StudyError as StudyError
